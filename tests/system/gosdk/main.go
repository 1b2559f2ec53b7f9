// SPDX-License-Identifier: Apache-2.0

// Drives the whole life of a guest with Firecracker's Go SDK, which takes vmm for Firecracker: it starts the program of
// that name in the PATH with the flags it always passes, makes FIFOs for log and metrics, configures and starts the VM,
// and waits for its end. TAP on standard output; a test of its own is each step that can fail.
//
// gosdk KERNEL INITRD DISK OTHER-DISK DIRECTORY
//
// The guest says "beat=N size=SECTORS" on its serial port, again and again, and prints what it reads from there.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	firecracker "github.com/firecracker-microvm/firecracker-go-sdk"
	"github.com/firecracker-microvm/firecracker-go-sdk/client/models"
	"github.com/sirupsen/logrus"
)

// A guest that takes longer hangs; an emulated machine is slow.
const patience = 180 * time.Second

// What a process or a FIFO has written so far.
type text struct {
	mutex sync.Mutex
	bytes bytes.Buffer
}

func (t *text) Write(data []byte) (int, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return t.bytes.Write(data)
}

func (t *text) String() string {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return t.bytes.String()
}

// The last value the guest gave for this name; -1 if none.
func (t *text) last(name string) int {
	all := regexp.MustCompile(`\b`+name+`=(\d+)`).FindAllStringSubmatch(t.String(), -1)
	if len(all) == 0 {
		return -1
	}
	value, err := strconv.Atoi(all[len(all)-1][1])
	if err != nil {
		return -1
	}
	return value
}

var count int

func check(name string, good bool, seen ...any) bool {
	count++
	if good {
		fmt.Printf("ok %d - %s\n", count, name)
		return true
	}
	fmt.Printf("not ok %d - %s\n", count, name)
	for _, line := range strings.Split(fmt.Sprintln(seen...), "\n") {
		fmt.Println("#   " + strings.TrimRight(line, "\r"))
	}
	return false
}

// check for calls that must succeed.
func succeed(name string, err error) bool {
	return check(name, err == nil, err)
}

// Too late is status 124: see lab_failed in tests/system/run.
func tooLate() {
	fmt.Println("#   status 124")
}

func wait(what func() bool) bool {
	for end := time.Now().Add(patience); !what(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			tooLate()
			return false
		}
	}
	return true
}

type guest struct {
	*firecracker.Machine
	output, messages, log text
	socket                string
}

type files struct {
	kernel, initrd, disk, other, directory string
}

func create(ctx context.Context, f files, id string) (*guest, error) {
	g := &guest{socket: filepath.Join(f.directory, id+".sock")}
	config := firecracker.Config{
		SocketPath:      g.socket,
		VMID:            id,
		KernelImagePath: f.kernel,
		InitrdPath:      f.initrd,
		KernelArgs:      "console=ttyS0 reboot=k panic=1 quiet",
		LogFifo:         filepath.Join(f.directory, id+".log"),
		LogLevel:        "Info",
		MetricsFifo:     filepath.Join(f.directory, id+".metrics"),
		FifoLogWriter:   &g.log,
		Drives: []models.Drive{{
			DriveID:      firecracker.String("disk"),
			PathOnHost:   firecracker.String(f.disk),
			IsRootDevice: firecracker.Bool(false),
			IsReadOnly:   firecracker.Bool(false),
		}},
		MachineCfg: models.MachineConfiguration{
			VcpuCount:  firecracker.Int64(1),
			MemSizeMib: firecracker.Int64(256),
			Smt:        firecracker.Bool(false),
		},
	}
	// As the SDK builds it, but for the standard output, which is otherwise this program's.
	command := firecracker.VMCommandBuilder{}.
		WithBin("firecracker").
		WithSocketPath(g.socket).
		AddArgs("--id", id, "--no-seccomp").
		WithStdout(&g.output).
		WithStderr(&g.messages).
		Build(ctx)
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	machine, err := firecracker.NewMachine(ctx, config, firecracker.WithLogger(logrus.NewEntry(logger)),
		firecracker.WithProcessRunner(command))
	g.Machine = machine
	return g, err
}

// Wait as the SDK means it, but not for ever.
func (g *guest) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := g.Wait(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		tooLate()
	}
	return err
}

func (g *guest) beats() bool {
	before := g.output.last("beat")
	return wait(func() bool { return g.output.last("beat") > before+1 })
}

func (g *guest) state(ctx context.Context) string {
	info, err := g.DescribeInstanceInfo(ctx)
	if err != nil || info.State == nil || info.ID == nil {
		return fmt.Sprint(err)
	}
	return *info.ID + " " + *info.State
}

// The sentence that the server gave for a refused request.
func sentence(err error) string {
	var fault interface{ GetPayload() *models.Error }
	if errors.As(err, &fault) && fault.GetPayload() != nil {
		return fault.GetPayload().FaultMessage
	}
	return ""
}

func running(ctx context.Context, g *guest, f files) {
	version, err := g.GetFirecrackerVersion(ctx)
	printed, _ := exec.Command("firecracker", "--version").Output()
	check("the version is that of --version", err == nil && strings.HasPrefix(string(printed), "Firecracker v"+version+"\n"),
		err, version, string(printed))
	check("the instance runs", g.state(ctx) == "first Running", g.state(ctx))

	if succeed("PauseVM", g.PauseVM(ctx)) {
		check("the instance is paused", g.state(ctx) == "first Paused", g.state(ctx))
		// What it said before is on its way for a moment.
		time.Sleep(time.Second)
		before := g.output.last("beat")
		time.Sleep(3 * time.Second)
		check("a paused guest says nothing", g.output.last("beat") == before, before, g.output.last("beat"))
		succeed("ResumeVM", g.ResumeVM(ctx))
		check("the guest goes on", g.beats(), g.output.String())
	}

	info, err := os.Stat(f.other)
	if err != nil {
		check("the other disk", false, err)
		return
	}
	succeed("UpdateGuestDrive", g.UpdateGuestDrive(ctx, "disk", f.other))
	sectors := int(info.Size() / 512)
	check("the guest sees the other disk's size", wait(func() bool { return g.output.last("size") == sectors }),
		g.output.last("size"), sectors)
	err = g.UpdateGuestDrive(ctx, "nosuch", f.other)
	check("UpdateGuestDrive of a drive that is not there is refused", err != nil && strings.Contains(err.Error(), "nosuch"), err)

	err = g.SetMetadata(ctx, map[string]string{"key": "value"})
	check("SetMetadata is refused with a sentence", strings.Contains(sentence(err), "metadata"), err)
}

// From the first request to a power-off that the guest was asked for.
func shutDown(ctx context.Context, f files) {
	g, err := create(ctx, f, "first")
	if !succeed("NewMachine", err) {
		return
	}
	defer g.StopVMM()
	if !succeed("Start", g.Start(ctx)) {
		fmt.Println("# " + g.messages.String())
		return
	}
	check("the guest's words are on standard output", wait(func() bool { return g.output.last("beat") > 0 }), g.output.String())
	running(ctx, g, f)
	succeed("Shutdown", g.Shutdown(ctx))
	err = g.end()
	check("after Ctrl-Alt-Del the program ends with status 0", err == nil, err, g.output.String(), g.messages.String())
	_, err = os.Stat(g.socket)
	check("the socket is gone", os.IsNotExist(err), err)
}

// StopVMM is SIGTERM, which ends Firecracker, and so vmm under that name, at once.
func stop(ctx context.Context, f files) {
	g, err := create(ctx, f, "second")
	if !succeed("NewMachine for a guest that is stopped", err) || !succeed("its Start", g.Start(ctx)) {
		return
	}
	check("it runs", wait(func() bool { return g.output.last("beat") > 0 }), g.output.String())
	check("Start twice is refused", g.Start(ctx) != nil)
	succeed("StopVMM", g.StopVMM())
	err = g.end()
	check("Wait says that it was stopped", err != nil && !errors.Is(err, context.DeadlineExceeded), err)
}

func badKernel(ctx context.Context, f files) {
	f.kernel = f.disk
	g, err := create(ctx, f, "third")
	if !succeed("NewMachine with a kernel that is none", err) {
		return
	}
	defer g.StopVMM()
	err = g.Start(ctx)
	check("Start says what is wrong with it", err != nil && strings.Contains(err.Error(), filepath.Base(f.disk)), err)
}

func main() {
	if len(os.Args) != 6 {
		fmt.Fprintln(os.Stderr, "usage: gosdk KERNEL INITRD DISK OTHER-DISK DIRECTORY")
		os.Exit(2)
	}
	f := files{os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]}
	ctx, cancel := context.WithCancel(context.Background())
	shutDown(ctx, f)
	stop(ctx, f)
	badKernel(ctx, f)
	cancel()
	fmt.Printf("1..%d\n", count)
}
