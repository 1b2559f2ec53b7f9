/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net's receive queue (virtio 1.2 §5.1.6.3, §5.1.6.4): one system call per frame, straight
 * into guest memory.
 *
 * The length of a frame is known only after it has been read. With mergeable buffers, chains for
 * the longest possible frame are therefore taken ahead and kept from frame to frame; a frame that
 * is longer than what the driver has given ends in `spill` and waits for more, but not for ever: a
 * driver with a small ring may have nothing to add. Without mergeable buffers a frame has to fit
 * one chain.
 *
 * While the driver has no buffers, or the limit is used up, the back end is not polled: frames wait,
 * and are dropped, in the host. Used buffers become visible once per pass, all those of a frame together. A header comes
 * from the back end into a buffer of our own, is checked and cut down to what the driver has
 * accepted, and only then written to the guest.
 *
 * With several pairs the back end spreads flows over those in use. The others are not polled, and
 * once the driver has been told that a pair is out of use, none of its buffers is: `run` is held
 * while frames move.
 *
 * Receive worker only, but for that lock. Guest-controlled: the chains. Back end: frames and headers. Chains
 * taken ahead go back into the ring, and a waiting frame is lost, when the queue stops: nothing is
 * in flight then.
 */
#include <errno.h>
#include <string.h>

#include "net_device.h"
#include "vmm/cleanup.h"
#include "vmm/iov.h"
#include "vmm/log.h"

LOG_DOMAIN("virtio-net");

/* Frames per pass: what follows in the back end waits until the driver has been told and other work
 * done. */
#define RX_BATCH 64
/* How long a frame may wait for the driver to give enough buffers. */
#define RX_PENDING_NS UINT64_C(20000000)
/* A full Ethernet frame with two VLAN tags; longer ones are taken in two steps. */
#define RX_FRAME_USUAL (1500 + 14 + 2 * 4)
/* A back end that only fails is given up, or its descriptor would keep the worker busy for nothing.
 */
#define RX_FAILURES_MAX 64

#define ETHERTYPE_AT  12
#define VLAN_TAG      4
#define VLAN_TAGS_MAX (2 * VLAN_TAG)

static void rx_ready(struct loop_source *source, uint32_t events);

static void stash_clear(struct net_rx *rx)
{
	rx->chain_first = 0;
	rx->chain_end = 0;
	rx->iov_first = 1;
	rx->iov_end = 1;
	rx->capacity = 0;
}

/* Moves what is left to the front. */
static void stash_compact(struct net_rx *rx)
{
	uint32_t chains = rx->chain_end - rx->chain_first;
	uint32_t moved = rx->iov_first - 1;

	memmove(rx->chains, rx->chains + rx->chain_first, chains * sizeof(rx->chains[0]));
	memmove(rx->iov + 1, rx->iov + rx->iov_first,
		(rx->iov_end - rx->iov_first) * sizeof(rx->iov[0]));
	rx->chain_first = 0;
	rx->chain_end = chains;
	rx->iov_first -= moved;
	rx->iov_end -= moved;
	for (uint32_t i = 0; i < chains; i++) {
		rx->chains[i].iov -= moved;
	}
}

/* Room for one more chain of any shape. The last entry of iov stays free for the spill. */
static bool stash_has_room(const struct net_rx *rx, const struct virtqueue *ring)
{
	return rx->chain_end < ARRAY_SIZE(rx->chains) &&
	       ARRAY_SIZE(rx->iov) - 1 - rx->iov_end >= ring->state.size;
}

/* Takes chains until `need` bytes are at hand or there are no more. False if the driver broke the
 * ring. */
static bool stash_fill(struct net_pair *pair, uint64_t need)
{
	struct net_rx *rx = &pair->rx;

	rx->full = false;
	while (rx->capacity < need && (rx->mergeable || rx->chain_first == rx->chain_end)) {
		struct virtqueue_chain *chain;
		int r;

		if (!stash_has_room(rx, &pair->rx_queue->ring)) {
			stash_compact(rx);
			if (!stash_has_room(rx, &pair->rx_queue->ring)) {
				rx->full = true;
				return true;
			}
		}
		chain = &rx->chains[rx->chain_end];
		r = virtqueue_pop(&pair->rx_queue->ring, chain, rx->iov + rx->iov_end,
				  ARRAY_SIZE(rx->iov) - 1 - rx->iov_end);
		if (r <= 0) {
			return r == 0;
		}
		if (chain->in_count == 0) {
			/*
			 * Nothing to write to: not a buffer, but it goes back. In its turn: the
			 * chains that are held must stay those that were taken last, or putting them
			 * back would give this one a second time and lose one of them.
			 */
			if (rx->chain_first != rx->chain_end) {
				virtqueue_unpop(&pair->rx_queue->ring, chain);
				rx->full = true;
				return true;
			}
			virtqueue_push(&pair->rx_queue->ring, chain, 0);
			net_count(&pair->counters.rx_invalid, 1);
			continue;
		}
		/* Readable parts mean nothing here. */
		memmove(chain->iov, chain->iov + chain->out_count,
			chain->in_count * sizeof(chain->iov[0]));
		chain->out_count = 0;
		chain->out_len = 0;
		rx->iov_end += chain->in_count;
		rx->capacity += chain->in_len;
		rx->chain_end++;
	}
	return true;
}

/* How many bytes of the chains a read may have written, the header's place included. */
static uint64_t touched_by(ssize_t result)
{
	if (result == -EAGAIN) {
		return 0;
	}
	return result < 0 ? UINT64_MAX : (uint64_t)result;
}

/* Reads a frame to where it belongs, header to rx->header. */
static ssize_t read_frame(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;
	uint32_t count = rx->iov_end - rx->iov_first;
	struct net_split saved;
	struct iovec *list;
	ssize_t n;

	rx->iov[rx->iov_end] =
		(struct iovec){ .iov_base = rx->spill, .iov_len = sizeof(rx->spill) };
	list = net_split_header(rx->iov + rx->iov_first, &count, &rx->header, &saved);
	n = pair->netdev->ops->receive(pair->netdev, list, (int)count + 1);
	net_unsplit(&saved);
	/* Whatever becomes of the frame, and of the chains. */
	guest_memory_written_list(pair->net->dev.mem, rx->iov + rx->iov_first,
				  rx->iov_end - rx->iov_first, touched_by(n));
	rx->direct = (uint32_t)MIN(MAX(rx->capacity, (uint64_t)NETDEV_HEADER_SIZE),
				   (uint64_t)NETDEV_HEADER_SIZE + NETDEV_FRAME_MAX);
	return n;
}

/* Bytes of VLAN tags in the frame that was read last: they belong to the header, which the MTU does
 * not count. */
static uint32_t vlan_tags(const struct net_rx *rx)
{
	const uint32_t count = rx->iov_end - rx->iov_first + 1; /* the spilled part as well */
	uint32_t tags = 0;
	uint8_t type[2];

	while (tags < VLAN_TAGS_MAX &&
	       iov_read(rx->iov + rx->iov_first, count, NETDEV_HEADER_SIZE + ETHERTYPE_AT + tags,
			type, sizeof(type)) == sizeof(type) &&
	       ((type[0] == 0x81 && type[1] == 0x00) || (type[0] == 0x88 && type[1] == 0xa8))) {
		tags += VLAN_TAG;
	}
	return tags;
}

/* Whether the driver can be given this frame; makes its header fit what the driver has accepted. */
static bool frame_valid(struct net_pair *pair, size_t size)
{
	struct net_rx *rx = &pair->rx;
	struct virtio_net_hdr_v1 *header = &rx->header;
	size_t len;

	if (size < NETDEV_HEADER_SIZE + NETDEV_FRAME_MIN ||
	    size > NETDEV_HEADER_SIZE + NETDEV_FRAME_MAX) {
		return false;
	}
	len = size - NETDEV_HEADER_SIZE;
	header->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID;
	if (!net_check_header(header, len, rx->offloads)) {
		return false;
	}
	if ((rx->offloads & NETDEV_OFFLOAD_CSUM) == 0) {
		header->flags = 0;
	}
	return rx->mtu == 0 || header->gso_type != VIRTIO_NET_HDR_GSO_NONE ||
	       len <= rx->mtu + NETDEV_FRAME_MIN ||
	       len <= rx->mtu + NETDEV_FRAME_MIN + vlan_tags(rx);
}

/* The waiting frame fills the first chains: header, what spilled, and back to the driver. */
static void deliver(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;
	const struct iovec *list = rx->iov + rx->iov_first;
	uint32_t count = rx->iov_end - rx->iov_first;
	uint64_t left = rx->pending;
	uint16_t buffers = 0;

	if (rx->pending > rx->direct) {
		(void)iov_write(list, count, rx->direct, rx->spill, rx->pending - rx->direct);
	}
	for (uint64_t covered = 0; covered < rx->pending; buffers++) {
		covered += rx->chains[rx->chain_first + buffers].in_len;
	}
	rx->header.num_buffers = htole16(rx->mergeable ? buffers : 1);
	(void)iov_write(list, count, 0, &rx->header, sizeof(rx->header));
	while (left != 0) {
		const struct virtqueue_chain *chain = &rx->chains[rx->chain_first];
		uint32_t written = (uint32_t)MIN(left, chain->in_len);

		virtqueue_push_exact(&pair->rx_queue->ring, chain, written);
		left -= written;
		rx->capacity -= chain->in_len;
		rx->iov_first += chain->in_count;
		rx->chain_first++;
	}
	if (rx->chain_first == rx->chain_end) {
		stash_clear(rx);
	}
	net_count(&pair->counters.rx_frames, 1);
	net_count(&pair->counters.rx_bytes, rx->pending - NETDEV_HEADER_SIZE);
	rx->pending = 0;
}

/* No buffers: true if the driver has added some meanwhile, else its kick is waited for. */
static bool buffers_came(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;

	virtqueue_suppress_kicks(&pair->rx_queue->ring, false);
	if (virtqueue_has_work(&pair->rx_queue->ring)) {
		virtqueue_suppress_kicks(&pair->rx_queue->ring, true);
		return true;
	}
	rx->waiting = true;
	return false;
}

static void receive_failed(struct net_pair *pair, ssize_t r)
{
	if (r == -EAGAIN) {
		return;
	}
	if (r == -ENODEV || ++pair->rx.failures >= RX_FAILURES_MAX) {
		net_set_gone(pair->net);
		return;
	}
	net_count(&pair->counters.rx_errors, 1);
}

/* One frame, one step nearer to it, or false: nothing more can be done now. */
static bool rx_step(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;

	if (!stash_fill(pair, MAX(rx->want, rx->pending))) {
		return false;
	}
	if (rx->pending == 0) {
		ssize_t n;

		if (rx->chain_first == rx->chain_end) {
			return buffers_came(pair);
		}
		if (queue_limit_stops(&rx->limit)) {
			rx->held = true;
			return false;
		}
		n = read_frame(pair);
		if (n < 0) {
			receive_failed(pair, n);
			return false;
		}
		rx->failures = 0;
		queue_limit_take(&rx->limit, (uint64_t)n);
		if (!frame_valid(pair, (size_t)n)) {
			net_count(&pair->counters.rx_invalid, 1);
			return true;
		}
		rx->pending = (uint32_t)n;
	}
	if (rx->pending <= rx->capacity) {
		deliver(pair);
		return true;
	}
	if (!rx->mergeable || rx->full) {
		net_count(&pair->counters.rx_no_room, 1);
		rx->pending = 0;
		return true;
	}
	return buffers_came(pair);
}

static void pending_expired(struct loop_timer *timer);

/* A frame that waits for buffers is not given to the driver any more. */
static void drop_pending(struct net_pair *pair)
{
	if (pair->rx.pending != 0) {
		net_count(&pair->counters.rx_no_room, 1);
		pair->rx.pending = 0;
	}
}

static void move_frames(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;

	SCOPED_LOCK(&rx->run);
	rx->off = !net_pair_active(pair);
	if (rx->off) {
		drop_pending(pair);
		return;
	}
	virtqueue_suppress_kicks(&pair->rx_queue->ring, true);
	for (uint32_t i = 0; i < RX_BATCH && !net_broken(pair->net); i++) {
		if (!rx_step(pair)) {
			break;
		}
	}
	virtio_queue_publish(pair->rx_queue);
	if (pair->rx_queue->ring.state.broken) {
		virtio_needs_reset(&pair->net->dev, "the driver broke the receive queue");
	}
}

static void rx_run(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;
	bool poll;

	rx->waiting = false;
	rx->held = false;
	loop_timer_cancel(&rx->timer);
	move_frames(pair);
	if (atomic_load(&pair->net->gone) || net_broken(pair->net)) {
		loop_source_remove(&rx->source);
		return;
	}
	if (rx->waiting && rx->pending != 0) {
		loop_timer_set(&pair->rx_queue->worker->loop, &rx->timer, RX_PENDING_NS,
			       pending_expired);
	}
	poll = !rx->waiting && !rx->held && !rx->off;
	if (loop_source_modify(&rx->source, poll ? EPOLLIN : 0) < 0) {
		net_set_gone(pair->net);
	}
}

/* The driver had its time and still has no room for the frame. */
static void pending_expired(struct loop_timer *timer)
{
	struct net_pair *pair = container_of(timer, struct net_pair, rx.timer);

	drop_pending(pair);
	rx_run(pair);
}

static void rx_ready(struct loop_source *source, uint32_t events)
{
	struct net_pair *pair = container_of(source, struct net_pair, rx.source);

	/* An error that reading does not take away, as of a deleted tap. */
	if ((events & EPOLLIN) == 0 && ++pair->rx.failures >= RX_FAILURES_MAX) {
		net_set_gone(pair->net);
	}
	rx_run(pair);
}

void net_rx_process(struct net_pair *pair)
{
	/* Buffers are taken when frames come; a kick matters only while they are missing. The end of
	 * a delay by the limit comes this way, too, and so does the news that the pair is in use. */
	if (pair->rx.waiting || pair->rx.off || (pair->rx.held && !pair->rx.limit.throttled)) {
		rx_run(pair);
	}
}

/* The first pair's worker speaks for all of them: these are settings of the interface. False: it is
 * gone. */
static bool prepare_backend(struct net_pair *pair)
{
	struct virtio_net *net = pair->net;
	struct error e = { 0 };
	int r = net_attach_pairs(net, atomic_load(&net->state.active_pairs));

	if (r == 0) {
		r = netdev_set_offloads(pair->netdev, pair->rx.offloads);
	}
	if (r == -ENODEV) {
		net_set_gone(net);
		return false;
	}
	if (r < 0) {
		/* Frames that ask for more than was set are dropped one by one. */
		(void)error_set_sys(&e, ERROR_NET, -r, "%s: '%s' cannot be set up", net->dev.name,
				    pair->netdev->name);
		log_guest(LOG_WARN, "%s", e.msg);
	}
	return true;
}

void net_rx_start(struct net_pair *pair)
{
	struct virtio_net *net = pair->net;
	struct net_rx *rx = &pair->rx;
	uint64_t features = net->dev.state.features;
	struct error e = { 0 };

	rx->mergeable = virtio_has_feature(&net->dev, VIRTIO_NET_F_MRG_RXBUF);
	rx->mtu = virtio_has_feature(&net->dev, VIRTIO_NET_F_MTU) ? net->state.mtu : 0;
	rx->offloads = net_offloads(features, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4,
				    VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_ECN);
	rx->want = NETDEV_HEADER_SIZE +
		   ((rx->offloads & (NETDEV_OFFLOAD_TSO4 | NETDEV_OFFLOAD_TSO6)) != 0
			    ? NETDEV_FRAME_MAX
			    : RX_FRAME_USUAL);
	rx->waiting = false;
	rx->held = false;
	rx->off = !net_pair_active(pair);
	rx->failures = 0;
	rx->pending = 0;
	stash_clear(rx);
	virtqueue_suppress_kicks(&pair->rx_queue->ring, true);
	if (atomic_load(&net->gone) || (pair == net->pairs && !prepare_backend(pair))) {
		return;
	}
	if (loop_source_add(&pair->rx_queue->worker->loop, &rx->source, pair->netdev->fd,
			    rx->off ? 0 : EPOLLIN, rx_ready, &e) < 0) {
		virtio_needs_reset(&net->dev, e.msg);
	}
}

void net_rx_stop(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;

	queue_limit_stop(&rx->limit);
	loop_source_remove(&rx->source);
	loop_timer_cancel(&rx->timer);
	drop_pending(pair);
	while (rx->chain_end > rx->chain_first) {
		virtqueue_unpop(&pair->rx_queue->ring, &rx->chains[--rx->chain_end]);
	}
	stash_clear(rx);
	rx->waiting = false;
	rx->held = false;
	rx->off = false;
}
