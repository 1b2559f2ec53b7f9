/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the serial port and of the virtio devices other than the disk. */
#include "virtio.h"

#define UART(reg)    (PLATFORM_PORT_SERIAL + (reg))
#define UART_DATA    UART(0)
#define UART_IER     UART(1)
#define UART_IIR     UART(2)
#define UART_LCR     UART(3)
#define UART_MCR     UART(4)
#define UART_LSR     UART(5)
#define UART_SCRATCH UART(7)

/* Reads a line from a port as the machine left it, by its line status alone. */
static void poll_line(void)
{
	char line[128];
	unsigned length = 0;
	uint64_t start = guest_tsc();
	bool done = false;

	guest_check(guest_in8(UART_IER) == 0);
	guest_check(guest_in8(UART_MCR) == 0);
	guest_puts("polling\n");
	while (!done && guest_tsc() - start < GUEST_PATIENCE) {
		if (guest_in8(UART_LSR) & 1) {
			char c = (char)guest_in8(UART_DATA);

			done = c == '\n' || length + 1 == sizeof(line);
			line[length++] = c;
		}
	}
	guest_check(done);
	line[length - (length != 0)] = 0;
	guest_printf("polled \"%s\"\n", line);
}

/* Reads a line by receive interrupts and writes it back; "input" must be at hand on standard input.
 */
int test_serial(void)
{
	volatile uint32_t *count = &guest_irq_count[GUEST_VECTOR_GSI(PLATFORM_GSI_SERIAL)];
	char line[128];
	unsigned length = 0;
	uint64_t start = guest_tsc();
	bool done = false;

	guest_check((guest_in8(UART_LSR) & 0x60) == 0x60);
	if (guest_option_number("poll", 0)) {
		poll_line();
	}
	guest_out8(UART_SCRATCH, 0xa5);
	guest_check(guest_in8(UART_SCRATCH) == 0xa5);
	/* Divisor latch. */
	guest_out8(UART_LCR, 0x83);
	guest_out8(UART_DATA, 1);
	guest_out8(UART_IER, 0);
	guest_check(guest_in8(UART_DATA) == 1);
	guest_out8(UART_LCR, 3);
	guest_check(guest_in8(UART_LCR) == 3);
	guest_out8(UART_IIR, 7); /* FIFO on and clear */
	guest_check((guest_in8(UART_IIR) & 0xc0) == 0xc0);
	/* Loop: what is sent is received, and does not go out. */
	guest_out8(UART_MCR, 0x10);
	guest_out8(UART_DATA, 'L');
	guest_check(guest_in8(UART_LSR) & 1);
	guest_check(guest_in8(UART_DATA) == 'L');
	guest_out8(UART_MCR, 0x0b); /* DTR, RTS, OUT2 */
	guest_ioapic_route(PLATFORM_GSI_SERIAL);
	guest_irq_enable();
	guest_puts("ready\n");
	guest_out8(UART_IER, 1);
	while (!done && guest_tsc() - start < GUEST_PATIENCE) {
		uint32_t before = *count;

		while (guest_in8(UART_LSR) & 1) {
			char c = (char)guest_in8(UART_DATA);

			if (c == '\n' || c == '\r' || length + 1 == sizeof(line)) {
				done = true;
				break;
			}
			line[length++] = c;
		}
		if (!done && *count == before) {
			guest_wait(*count != before || guest_tsc() - start > GUEST_PATIENCE);
		}
	}
	line[length] = 0;
	guest_out8(UART_IER, 0);
	guest_check(done);
	guest_check(*count != 0);
	guest_printf("line \"%s\"\n", line);
	/* The transmitter's interrupt comes as soon as it is asked for. */
	{
		uint32_t before = *count;

		guest_out8(UART_IER, 2);
		guest_check(guest_wait(*count != before));
		guest_check((guest_in8(UART_IIR) & 0xf) == 2);
		guest_check((guest_in8(UART_IIR) & 0xf) == 1);
		guest_out8(UART_IER, 0);
	}
	return 0;
}

static uint64_t wanted_features(void)
{
	return (guest_option_number("indirect", 1) ? VIRTIO_F_INDIRECT : 0) |
	       (guest_option_number("event", 1) ? VIRTIO_F_EVENT_IDX : 0);
}

int test_rng(void)
{
	struct virtio v;
	uint8_t *a = guest_alloc(4096, 4096), *b = guest_alloc(4096, 4096);

	if (!virtio_find(&v, VIRTIO_ID_RNG, 0)) {
		guest_skip("no entropy device");
	}
	virtio_negotiate(&v, wanted_features());
	virtio_queue(&v, 0, 0);
	virtio_ready(&v);
	if (guest_option_number("irq", 1)) {
		virtio_interrupts(&v);
	}
	for (unsigned i = 0; i < 8; i++) {
		struct virtio_buffer buffer = { i & 1 ? b : a, 1U << (3 + i), true };
		uint32_t length;
		bool different = false;

		memset(buffer.address, 0, 4096);
		guest_require(virtio_add(&v, 0, &buffer, 1, buffer.address));
		virtio_kick(&v, 0);
		guest_check(virtio_take_wait(&v, 0, &length) == buffer.address);
		guest_check(length > 0 && length <= buffer.length);
		for (uint32_t n = length; n < 4096; n++) {
			guest_require(((uint8_t *)buffer.address)[n] == 0);
		}
		for (uint32_t n = 0; n < 8; n++) {
			different |= a[n] != b[n];
		}
		guest_check(different);
	}
	guest_printf("entropy %lx\n", *(uint64_t *)a);
	return 0;
}

/* Says something, then sends every line back until one that is "quit". */
int test_console(void)
{
	struct virtio v;
	char *in = guest_alloc(4096, 4096), *out = guest_alloc(4096, 4096);
	static const char hello[] = "console ready\n";
	struct virtio_buffer buffer;
	unsigned length = 0;

	if (!virtio_find(&v, VIRTIO_ID_CONSOLE, 0)) {
		guest_skip("no console device");
	}
	virtio_negotiate(&v, wanted_features() | 1);
	virtio_queue(&v, 0, 0);
	virtio_queue(&v, 1, 0);
	virtio_ready(&v);
	if (guest_option_number("irq", 1)) {
		virtio_interrupts(&v);
	}
	if (v.features & 1) {
		guest_printf("size %ux%u\n", guest_read16(v.config), guest_read16(v.config + 2));
	}
	memcpy(out, hello, sizeof(hello));
	buffer = (struct virtio_buffer){ out, sizeof(hello) - 1, false };
	guest_require(virtio_add(&v, 1, &buffer, 1, out));
	virtio_kick(&v, 1);
	guest_check(virtio_take_wait(&v, 1, NULL) == out);
	for (;;) {
		uint32_t got;
		bool end = false;

		buffer = (struct virtio_buffer){ in, 64, true };
		guest_require(virtio_add(&v, 0, &buffer, 1, in));
		virtio_kick(&v, 0);
		guest_check(virtio_take_wait(&v, 0, &got) == in);
		guest_require(got > 0 && got <= 64);
		for (uint32_t i = 0; i < got && length < 1024; i++) {
			out[length++] = in[i];
			end |= in[i] == '\n';
		}
		if (!end) {
			continue;
		}
		if (length >= 5 && !memcmp(out, "quit\n", 5)) {
			return 0;
		}
		buffer = (struct virtio_buffer){ out, length, false };
		guest_require(virtio_add(&v, 1, &buffer, 1, out));
		virtio_kick(&v, 1);
		guest_check(virtio_take_wait(&v, 1, NULL) == out);
		length = 0;
	}
}

#define NET_HEADER	12
#define NET_F_MAC	(1ULL << 5)
#define NET_F_MRG_RXBUF (1ULL << 15)
#define FRAME		256
#define RX_SIZE		2048
#define ECHO_CYCLES	600000000ULL
#define ETHERTYPE_0	0x88 /* 0x88b5: for local experiments (IEEE 802) */
#define ETHERTYPE_1	0xb5

/* The same frame again until it has come back. The host's end of a tap drops what it sends before
 * the link is up for it. */
static unsigned send_until_echoed(struct virtio *v, const struct virtio_buffer *buffers,
				  unsigned count, const uint8_t *frame, const uint8_t *mac)
{
	unsigned sent = 0;

	for (;;) {
		uint32_t length;
		uint8_t *got;

		guest_require(sent++ < 50);
		guest_require(virtio_add(v, 1, buffers, count, buffers[0].address));
		virtio_kick(v, 1);
		guest_check(virtio_take_wait(v, 1, NULL) == buffers[0].address);
		while ((got = virtio_take_within(v, 0, &length, ECHO_CYCLES))) {
			struct virtio_buffer again = { got, RX_SIZE, true };
			/* The host sends frames of its own as well, and late echoes of the frame
			 * before. */
			bool echo = got[24] == ETHERTYPE_0 && got[25] == ETHERTYPE_1 &&
				    got[26] == frame[14];

			guest_check(length >= NET_HEADER + 14 && length <= RX_SIZE);
			guest_check(got[10] == 1 && got[11] == 0); /* num_buffers */
			if (echo) {
				guest_check(length == NET_HEADER + FRAME);
				guest_check(!memcmp(got + NET_HEADER, mac, 6));
				guest_check(!memcmp(got + NET_HEADER + 14, frame + 14, FRAME - 14));
			}
			guest_require(virtio_add(v, 0, &again, 1, got));
			virtio_kick(v, 0);
			if (echo) {
				return sent;
			}
		}
	}
}

/* Sends count frames and waits for each to come back with its addresses exchanged. */
int test_net(void)
{
	struct virtio v;
	uint8_t *tx = guest_alloc(4096, 4096), *rx = guest_alloc(32UL * RX_SIZE, 4096),
		*frame = tx + NET_HEADER;
	uint8_t mac[6];
	unsigned count = (unsigned)guest_option_number("count", 16), sent = 0;

	if (!virtio_find(&v, VIRTIO_ID_NET, 0)) {
		guest_skip("no network device");
	}
	virtio_negotiate(&v, wanted_features() | NET_F_MAC |
				     (guest_option_number("mrg", 1) ? NET_F_MRG_RXBUF : 0));
	guest_check(v.features & NET_F_MAC);
	virtio_queue(&v, 0, 0);
	virtio_queue(&v, 1, 0);
	virtio_ready(&v);
	if (guest_option_number("irq", 1)) {
		virtio_interrupts(&v);
	}
	for (unsigned i = 0; i < 6; i++) {
		mac[i] = guest_read8(v.config + i);
	}
	guest_printf("mac %02x:%02x:%02x:%02x:%02x:%02x\n", mac[0], mac[1], mac[2], mac[3], mac[4],
		     mac[5]);
	guest_check(!(mac[0] & 1));
	for (unsigned i = 0; i < 32; i++) {
		struct virtio_buffer buffer = { rx + i * (unsigned long)RX_SIZE, RX_SIZE, true };

		guest_require(virtio_add(&v, 0, &buffer, 1, buffer.address));
	}
	virtio_kick(&v, 0);
	memset(frame, 0xff, 6);
	memcpy(frame + 6, mac, 6);
	frame[12] = ETHERTYPE_0;
	frame[13] = ETHERTYPE_1;
	for (unsigned n = 0; n < count; n++) {
		/* The header apart, or both in one buffer: framing is the driver's choice. */
		struct virtio_buffer buffers[2] = { { tx, NET_HEADER, false },
						    { frame, FRAME, false } };

		for (unsigned i = 14; i < FRAME; i++) {
			frame[i] = (uint8_t)(i * 7 + n);
		}
		if (n & 1) {
			buffers[0].length = NET_HEADER + FRAME;
		}
		sent += send_until_echoed(&v, buffers, n & 1 ? 1 : 2, frame, mac);
	}
	guest_printf("echoed %u, sent %u\n", count, sent);
	return 0;
}
