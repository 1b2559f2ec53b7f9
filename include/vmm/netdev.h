/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network back end: where a virtual network card's Ethernet frames come from and go to. One
 * descriptor, one table of operations.
 *
 * Frames cross this border with a virtio_net_hdr_v1 in front (<linux/virtio_net.h>,
 * NETDEV_HEADER_SIZE bytes, little-endian): it says which checksum or segmentation a frame still
 * needs. Back ends whose peer speaks plain frames add and remove it.
 *
 * One with several queues is a chain of as many struct netdevs (`more`), each for a pair of workers
 * of its own: what comes for the guest goes to one of those that are attached, flow by flow.
 *
 * Threads: made and destroyed on main. receive() and set_offloads() belong to the receive worker,
 * send() to the transmit worker; the two may run at the same time. The descriptor is non-blocking
 * and may be waited for in both workers' loops: EPOLLIN a frame waits, EPOLLOUT send() may work
 * again, EPOLLERR or EPOLLHUP the back end is gone for good.
 *
 * Nothing here is saved: a restored machine brings its own back end.
 */
#ifndef VMM_NETDEV_H
#define VMM_NETDEV_H

#include <sys/types.h>
#include <sys/uio.h>

#include "vmm/error.h"
#include "vmm/syscalls.h"
#include "vmm/types.h"

#define NETDEV_HEADER_SIZE 12
/* Ethernet without FCS. The longest: what the kernel segments (64 KiB), Ethernet header, two VLAN
 * tags. */
#define NETDEV_FRAME_MIN 14
#define NETDEV_FRAME_MAX (65536 + 14 + 2 * 4)
#define NETDEV_NAME_SIZE 16 /* IFNAMSIZ: 15 characters */
#define NETDEV_MAC_SIZE	 6
/* VIRTIO_NET_F_MTU's range (virtio 1.2 §5.1.4.1) */
#define NETDEV_MTU_MIN 68
#define NETDEV_MTU_MAX 65535

/* Work that a frame may leave to whoever takes it. Each TSO bit needs CSUM, ECN needs a TSO bit. */
#define NETDEV_OFFLOAD_CSUM (1U << 0)
#define NETDEV_OFFLOAD_TSO4 (1U << 1)
#define NETDEV_OFFLOAD_TSO6 (1U << 2)
#define NETDEV_OFFLOAD_ECN  (1U << 3)
#define NETDEV_OFFLOAD_ALL \
	(NETDEV_OFFLOAD_CSUM | NETDEV_OFFLOAD_TSO4 | NETDEV_OFFLOAD_TSO6 | NETDEV_OFFLOAD_ECN)

struct netdev;

struct netdev_ops {
	const char *kind;	      /* "tap" */
	struct syscall_list syscalls; /* of what follows */
	/*
	 * Reads one frame. iov[0] is the header, NETDEV_HEADER_SIZE bytes of the caller's own.
	 * Returns the bytes with the header, at most what `iov` holds: the rest of a longer frame
	 * is lost, so a full list means "perhaps cut off". -EAGAIN: none waits. -ENODEV: gone for
	 * good. Others: a frame was lost.
	 */
	ssize_t (*receive)(struct netdev *netdev, const struct iovec *iov, int count);
	/*
	 * Sends one frame; iov[0] is its header, which the caller has validated. Returns 0;
	 * -EAGAIN: not now, wait for EPOLLOUT; -ENETDOWN: the link is down, EPOLLOUT comes when it
	 * is up again; -ENODEV: gone for good; others: the host does not want this frame.
	 */
	int (*send)(struct netdev *netdev, const struct iovec *iov, int count);
	/* From now on receive() may give frames that need exactly these, a subset of
	 * netdev->offloads. 0 or negative errno. */
	int (*set_offloads)(struct netdev *netdev, uint32_t offloads);
	/*
	 * Of a chain: from now on receive() gives frames, or none, and what waited is lost; send()
	 * works either way. 0 or negative errno. NULL: one queue is all it can have.
	 */
	int (*attach_queue)(struct netdev *netdev, bool attach);
};

struct netdev {
	const struct netdev_ops *ops;
	struct netdev *more;   /* the next queue of the same; NULL: the last */
	bool detached;	       /* of a chain: gives no frames */
	int fd;		       /* owned */
	uint32_t offloads;     /* NETDEV_OFFLOAD_* that work in both directions */
	uint32_t offloads_set; /* as of the last set_offloads(); receive worker */
	bool link_up;	       /* when it was opened */
	bool plain;	       /* sockets: frames travel without header */
	bool connected;	       /* sockets: an empty read is the end (SOCK_SEQPACKET) */
	uint16_t mtu;	       /* told to the guest; 0: not. May be set before the device is made */
	uint32_t mtu_max;      /* the interface's own, when it was opened; 0: not known */
	bool made;	       /* the interface did not exist, and goes with its last descriptor */
	char name[NETDEV_NAME_SIZE]; /* for messages: "tap0", "fd 7" */
};

/* What remains of `offloads` when bits without the one that they need are taken away. */
uint32_t netdev_usable_offloads(uint32_t offloads);
/* Receive worker. */
int netdev_set_offloads(struct netdev *netdev, uint32_t offloads);
/*
 * What the guest is told, before the device is made; 0: what it must be told to use the interface as
 * it is, which is nothing if that is Ethernet's 1500. More than the interface has (mtu_max) is
 * possible: longer packets are lost then.
 */
int netdev_set_mtu(struct netdev *netdev, uint32_t mtu, struct error *e);
/* Closes the descriptors of the chain. NULL is fine. */
void netdev_destroy(struct netdev *netdev);
/* How many queues there are in the chain. */
uint32_t netdev_count(const struct netdev *netdev);
/* Nothing if it is so already. One thread at a time. */
int netdev_attach_queue(struct netdev *netdev, bool attach);

extern const struct netdev_ops netdev_tap_ops;
extern const struct netdev_ops netdev_socket_ops;
/* Of a thread that opens a tap that is there, besides open(2) and what its queues need. */
extern const struct syscall_list netdev_open_syscalls;

/*
 * Attaches to the tap interface `name`. One that is not there is made, if we may (CAP_NET_ADMIN): it
 * is down, and nobody has to remove it, because such an interface goes with its last descriptor.
 * ERROR_NET tells apart: bad name, no such interface and no permission to make one, not a tap, no
 * permission, in use by another program, no /dev/net/tun. The interface may be down (link_up false)
 * and come up later.
 *
 * `several`: an interface with several queues, of which this attaches to the first;
 * netdev_add_queues() opens the others, up to `count` altogether, detached.
 */
int netdev_open_tap(struct netdev **ret, const char *name, bool several, struct error *e);
/* The same where no socket can be made any more: `query` is from netdev_open_query(), made before that
 * (negative errno), the caller's; less than 0: none. */
int netdev_open_query(void);
int netdev_open_tap_by(int query, struct netdev **ret, const char *name, bool several,
		       struct error *e);
int netdev_add_queues(struct netdev *first, uint32_t count, struct error *e);
/* As netdev_open_tap(), as an attached descriptor for netdev_open_fd(): nobody else can have the
 * interface as long as it is open. */
int netdev_claim_tap(int *ret, const char *name, bool several, struct error *e);
/*
 * Takes an open descriptor: a tap (with IFF_VNET_HDR, and IFF_NO_PI, which cannot be checked), or a
 * datagram or seqpacket socket that carries plain Ethernet frames, one each. Standard input, output
 * and error are refused. Owns `fd` on success only.
 */
int netdev_open_fd(struct netdev **ret, int fd, struct error *e);
/* For tests: a socket pair whose frames carry the header, all offloads. *peer is the caller's. Several
 * of them can be made a chain. */
int netdev_open_pair(struct netdev **ret, int *peer, struct error *e);

/* ERROR_NET unless an interface may have this name: 1-15 characters, none of '/', ':', '%', space,
 * control; not "." or "..". */
int netdev_check_name(const char *name, struct error *e);
/*
 * A locally administered unicast address made from text: the VM's name and the card's number give
 * the same address at every start, so that guests keep their interface names and DHCP leases. Two
 * VMs of one name on one bridge need addresses of their own. NULL gives a random one.
 */
void netdev_make_mac(uint8_t mac[NETDEV_MAC_SIZE], const char *seed, uint32_t index);

#endif
