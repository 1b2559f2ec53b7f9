/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM's console for any number of readers and writers: the host side of struct console_channel.
 * Guest output goes into a ring of the last CONSOLE_HUB_RING bytes, from there to every client of
 * the console socket, to a log file, and, at once and first, to the channel of a terminal if there
 * is one (`vmm run` in the foreground). A client that attaches gets what the ring holds (from a
 * line's beginning, if it has gone round), then what comes. Input of clients is delivered in the
 * order it arrives.
 *
 * The wire of the console socket is plain bytes in both directions, so that any tool can attach;
 * the window's size goes over the API (PATCH /console).
 *
 * A guest never waits for a client: one that is slow loses the oldest bytes, is told so in its stream
 * ("[123 bytes lost]"), and goes on. Memory is the ring (address space until used) and a few KiB per
 * client; clients at most CONSOLE_HUB_CLIENTS. The log file keeps about the last
 * CONSOLE_HUB_LOG_MAX bytes: older blocks are punched out, so offsets stay and space is bounded;
 * where the file system has no holes the file begins anew. It is written within 20 ms.
 *
 * Threads: channel.output() on any device thread; `lock` guards the ring and positions, held for a
 * copy only. Everything else on main.
 */
#ifndef VMM_CONSOLE_HUB_H
#define VMM_CONSOLE_HUB_H

#include "vmm/console.h"
#include "vmm/error.h"
#include "vmm/loop.h"
#include "vmm/syscalls.h"
#include "vmm/types.h"

#define CONSOLE_HUB_RING    KIB(64)
#define CONSOLE_HUB_CLIENTS 32
#define CONSOLE_HUB_LOG_MAX MIB(4)

struct console_hub;

struct console_hub_config {
	struct loop *loop; /* borrowed */
	/* Gets all output first, on the device's thread, and decides about may_output(). NULL: none.
	 * Its input_ready() is forwarded, too. */
	struct console_channel *terminal;
	/* Main: gives input to the guest's device; returns the bytes taken, fewer if it is full:
	 * channel->input_ready() says when there is room. */
	size_t (*deliver)(void *arg, const uint8_t *data, size_t len);
	void *arg;
};

int console_hub_create(struct console_hub **ret, const struct console_hub_config *config,
		       struct error *e);
/* What struct vm_host and struct instance_host take. */
struct console_channel *console_hub_channel(struct console_hub *hub);
/* A listening, non-blocking Unix socket; owned from here on, also if this fails. One. */
int console_hub_listen(struct console_hub *hub, int fd, struct error *e);
/* Closes that one, whose name is another's from now on; clients stay. */
void console_hub_unlisten(struct console_hub *hub);
/* A regular file, opened for writing, empty; owned from here on. */
void console_hub_log_to(struct console_hub *hub, int fd);
/* The same with one that has something already, behind which it goes on. */
void console_hub_log_on(struct console_hub *hub, int fd);
/* What has not been written to the log yet is, now. Main. */
void console_hub_log_flush(struct console_hub *hub);
/* The guest's device exists now: what clients sent meanwhile is delivered. */
void console_hub_start(struct console_hub *hub);
struct console_hub_stats {
	uint64_t output_bytes, input_bytes, lost_bytes; /* lost: to slow clients and the log */
	uint32_t clients;
};
void console_hub_stats(struct console_hub *hub, struct console_hub_stats *stats);
/* The last `size` bytes of output, or what there is since byte `since` of it. Main. */
size_t console_hub_last(struct console_hub *hub, uint64_t since, uint8_t *buf, size_t size);
/*
 * The end: sends what still waits for at most `timeout_ms`, lets clients and log go. A guest's thread
 * that cannot be ended may still write; nobody hears it. Accepts NULL.
 */
void console_hub_close(struct console_hub *hub, int timeout_ms);
/* The same, and frees it: no guest thread runs any more. Accepts NULL. */
void console_hub_destroy(struct console_hub *hub, int timeout_ms);

/* Of main, and of the device threads that call output(). */
extern const struct syscall_list console_hub_main_syscalls, console_hub_output_syscalls;

#endif
