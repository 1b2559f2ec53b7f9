/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine that a guest sees: where RAM, registers and ports are. The one place that names these numbers: loader, ACPI
 * tables, devices and the test guests take them from here. Freestanding: usable from assembler-free bare-metal guests too.
 *
 * Guest physical memory (x86-64):
 *	0x00000000  RAM, up to PLATFORM_RAM_LOW_END (3 GiB); PLATFORM_EBDA to 1 MiB is ours (reserved)
 *	0xd0000000  virtio-mmio windows, one 4 KiB page per device
 *	0xe0000000  PCI configuration space by memory accesses (ECAM), one bus
 *	0xfec00000  IOAPIC, 0xfee00000 local APIC (both in KVM)
 *	0xfffbc000  KVM's identity map page and TSS pages (Intel without unrestricted guest)
 *	0x100000000 RAM above the hole
 *	above RAM   PCI BARs, see platform_pci_aperture()
 */
#ifndef VMM_PLATFORM_H
#define VMM_PLATFORM_H

#define PLATFORM_RAM_LOW_END	0xc0000000ULL
#define PLATFORM_RAM_HIGH_START 0x100000000ULL

#define PLATFORM_MEMORY_MIN (1ULL << 20) /* what lies below the kernel */
#define PLATFORM_VCPUS_MAX  32

/* Low memory, all below 640 KiB, that the loader fills before the first instruction. */
#define PLATFORM_GDT		0x500
#define PLATFORM_PVH_START_INFO 0x6000
#define PLATFORM_BOOT_PARAMS	0x7000
#define PLATFORM_PAGE_TABLES	0x9000 /* PML4, PDPT, 4 page directories: 0x9000-0xefff */
#define PLATFORM_CMDLINE	0x20000
#define PLATFORM_CMDLINE_MAX	0x10000 /* bytes with the terminating NUL */
#define PLATFORM_EBDA		0x9fc00
#define PLATFORM_ACPI		0xe0000 /* RSDP first: found by the scan of 0xe0000-0xfffff as well */
#define PLATFORM_ACPI_END	0xfe000
#define PLATFORM_VMCLOCK	0xfe000 /* a page that the guest may show to its programs */
#define PLATFORM_MPTABLE	0xff000 /* only for guests without ACPI */
#define PLATFORM_MPTABLE_END	0xfff00
#define PLATFORM_VMGENID	0xfff00 /* 16 bytes, in a page that is touched anyway */
#define PLATFORM_RESET_VECTOR	0xffff0 /* f000:fff0, where a jump to the BIOS goes; 16 bytes */
#define PLATFORM_KERNEL_MIN	0x100000

#define PLATFORM_VIRTIO_MMIO	  0xd0000000ULL
#define PLATFORM_VIRTIO_MMIO_SIZE 0x1000ULL
#define PLATFORM_VIRTIO_MMIO_MAX  32
#define PLATFORM_VIRTIO_PCI_MAX	  64 /* as many as a configuration can have */
/* The IOAPIC pins that no platform device uses, in the order in which virtio-mmio devices get them;
 * edge triggered, active high. Pins 0 and 2 are the timer's, whichever way it is wired. */
#define PLATFORM_VIRTIO_GSIS                                                       \
	{                                                                          \
		5, 6, 7, 10, 11, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 3, 12 \
	}
#define PLATFORM_VIRTIO_GSI_COUNT 18

#define PLATFORM_PCI_ECAM	   0xe0000000ULL
#define PLATFORM_PCI_ECAM_SIZE	   0x100000ULL
#define PLATFORM_PCI_APERTURE_SIZE 0x40000000ULL /* also what it is aligned to */

#define PLATFORM_IOAPIC		  0xfec00000ULL
#define PLATFORM_LAPIC		  0xfee00000ULL
#define PLATFORM_KVM_IDENTITY_MAP 0xfffbc000ULL
#define PLATFORM_KVM_TSS	  0xfffbd000ULL
#define PLATFORM_GSIS		  24

/* Ports and their GSIs. */
#define PLATFORM_PORT_I8042_DATA    0x60
#define PLATFORM_PORT_I8042_COMMAND 0x64
#define PLATFORM_GSI_I8042_KEYBOARD 1
#define PLATFORM_PORT_RTC	    0x70
#define PLATFORM_GSI_RTC	    8
#define PLATFORM_PORT_DEBUG_EXIT    0xf4 /* only with --debug-exit */
#define PLATFORM_PORT_SERIAL	    0x3f8
#define PLATFORM_GSI_SERIAL	    4
#define PLATFORM_PORT_PVPANIC	    0x505
#define PLATFORM_PORT_ACPI	    0x600 /* see vmm/acpi_power.h */
#define PLATFORM_GSI_ACPI	    9
#define PLATFORM_PORT_PM_TIMER	    0x608
#define PLATFORM_PORT_PCI_HOTPLUG   0x610 /* see vmm/pci_hotplug.h */
#define PLATFORM_PORT_PCI_ADDRESS   0xcf8
#define PLATFORM_PORT_PCI_DATA	    0xcfc

/* Where PCI BARs are in a machine with that much RAM: the first aligned place above all of it. */
static inline unsigned long long platform_pci_aperture(unsigned long long ram)
{
	unsigned long long high = ram > PLATFORM_RAM_LOW_END ? ram - PLATFORM_RAM_LOW_END : 0;

	return (PLATFORM_RAM_HIGH_START + high + PLATFORM_PCI_APERTURE_SIZE - 1) &
	       ~(PLATFORM_PCI_APERTURE_SIZE - 1);
}

/* Where virtio-mmio device 0, 1, ... PLATFORM_VIRTIO_MMIO_MAX - 1 is: everything that tells the guest
 * of it asks here. */
static inline unsigned long long platform_virtio_address(unsigned int device)
{
	return PLATFORM_VIRTIO_MMIO + device * PLATFORM_VIRTIO_MMIO_SIZE;
}

/* Its interrupt line. When all have been given away, devices share them from the first one on: an
 * edge makes the guest ask each device of the line for its interrupt status, so none is missed. */
static inline unsigned int platform_virtio_gsi(unsigned int device)
{
	static const unsigned char gsis[] = PLATFORM_VIRTIO_GSIS;

	return gsis[device % PLATFORM_VIRTIO_GSI_COUNT];
}

#endif
