/* SPDX-License-Identifier: Apache-2.0 */
/* Strings, output on the serial port, command line options, exit, memory: what every test guest
 * needs. Boot CPU only. */
#include "guest.h"

#define HEAP_START 0x800000UL
#define HEAP_END   0x1800000UL

static uint64_t heap_next = HEAP_START;
static unsigned failures;

void *memset(void *to, int byte, size_t size)
{
	void *start = to;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(byte) : "memory");
	return start;
}

void *memcpy(void *to, const void *from, size_t size)
{
	void *start = to;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
	return start;
}

int memcmp(const void *a, const void *b, size_t size)
{
	const uint8_t *x = a, *y = b;

	for (size_t i = 0; i < size; i++) {
		if (x[i] != y[i]) {
			return x[i] - y[i];
		}
	}
	return 0;
}

size_t guest_strlen(const char *s)
{
	size_t length = 0;

	while (s[length]) {
		length++;
	}
	return length;
}

bool guest_equal(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

void guest_putc(char c)
{
	guest_out8(PLATFORM_PORT_SERIAL, (uint8_t)c);
}

void guest_puts(const char *s)
{
	while (*s) {
		guest_putc(*s++);
	}
}

static void put_number(uint64_t value, unsigned base, unsigned width, char pad)
{
	char digits[24];
	unsigned count = 0;

	do {
		digits[count++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (width > count) {
		guest_putc(pad);
		width--;
	}
	while (count) {
		guest_putc(digits[--count]);
	}
}

void guest_printf(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	for (; *format; format++) {
		unsigned width = 0;
		bool wide = false;
		char pad = ' ';

		if (*format != '%') {
			guest_putc(*format);
			continue;
		}
		format++;
		if (*format == '0') {
			pad = '0';
			format++;
		}
		while (*format >= '0' && *format <= '9') {
			width = width * 10 + (unsigned)(*format++ - '0');
		}
		while (*format == 'l') {
			wide = true;
			format++;
		}
		switch (*format) {
		case 's':
			guest_puts(va_arg(args, const char *));
			break;
		case 'c':
			guest_putc((char)va_arg(args, int));
			break;
		case 'd': {
			int64_t value = wide ? va_arg(args, int64_t) : va_arg(args, int);

			if (value < 0) {
				guest_putc('-');
				value = -value;
			}
			put_number((uint64_t)value, 10, width, pad);
			break;
		}
		case 'u':
			put_number(wide ? va_arg(args, uint64_t) : va_arg(args, unsigned), 10,
				   width, pad);
			break;
		case 'x':
			put_number(wide ? va_arg(args, uint64_t) : va_arg(args, unsigned), 16,
				   width, pad);
			break;
		default:
			guest_putc(*format);
		}
	}
	va_end(args);
}

void guest_exit(enum guest_status status)
{
	guest_out8(PLATFORM_PORT_DEBUG_EXIT, (uint8_t)status);
	/* Without --debug-exit: power off. */
	guest_out8(GUEST_ACPI_SLEEP_CONTROL, GUEST_ACPI_SLEEP_S5);
	guest_sleep();
}

void guest_skip(const char *why)
{
	guest_printf("SKIP %s\n", why);
	guest_exit(GUEST_SKIP);
}

void guest_failed(const char *file, int line, const char *what)
{
	const char *name = file;

	for (const char *p = file; *p; p++) {
		if (*p == '/') {
			name = p + 1;
		}
	}
	guest_printf("FAIL %s:%d: %s\n", name, line, what);
	failures++;
}

void guest_fatal(const char *file, int line, const char *what)
{
	guest_failed(file, line, what);
	guest_exit(GUEST_FAIL);
}

unsigned guest_failures(void)
{
	return failures;
}

const char *guest_option(const char *key)
{
	static char value[256];
	const char *p = guest_command_line();
	size_t length = guest_strlen(key);

	while (*p) {
		size_t i = 0;

		while (*p == ' ') {
			p++;
		}
		while (i < length && p[i] == key[i]) {
			i++;
		}
		if (i == length && p[i] == '=') {
			size_t used = 0;

			for (p += length + 1; *p && *p != ' ' && used + 1 < sizeof(value); p++) {
				value[used++] = *p;
			}
			value[used] = 0;
			return value;
		}
		while (*p && *p != ' ') {
			p++;
		}
	}
	return NULL;
}

uint64_t guest_option_number(const char *key, uint64_t fallback)
{
	const char *p = guest_option(key);
	uint64_t value = 0;
	unsigned base = 10;

	if (!p) {
		return fallback;
	}
	if (p[0] == '0' && p[1] == 'x') {
		base = 16;
		p += 2;
	}
	for (; *p; p++) {
		unsigned digit = *p >= 'a' ? (unsigned)(*p - 'a') + 10 : (unsigned)(*p - '0');

		if (digit >= base) {
			guest_fatal(__FILE__, __LINE__, key);
		}
		value = value * base + digit;
	}
	return value;
}

void *guest_alloc(size_t size, size_t align)
{
	uint64_t start = (heap_next + align - 1) & ~((uint64_t)align - 1);

	guest_require(start + size <= HEAP_END);
	heap_next = start + size;
	return memset((void *)start, 0, size);
}
