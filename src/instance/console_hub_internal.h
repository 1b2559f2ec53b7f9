/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the console hub share: its ring (console_hub.c), its log (console_hub_log.c)
 * and its clients (console_hub_clients.c). Contract and threads: vmm/console_hub.h.
 *
 * Positions count bytes of guest output since the start and never wrap; byte P lies in the ring at
 * P % CONSOLE_HUB_RING while P >= console_hub_oldest().
 */
#ifndef VMM_SRC_INSTANCE_CONSOLE_HUB_INTERNAL_H
#define VMM_SRC_INSTANCE_CONSOLE_HUB_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "vmm/console_hub.h"

#define CONSOLE_CLIENT_INPUT KIB(4)  /* bytes of a client that wait for the guest */
#define CONSOLE_HUB_PIECE    KIB(16) /* copied under the lock at a time */
#define CONSOLE_LOG_BACKLOG  (CONSOLE_HUB_RING / 4)
#define CONSOLE_LOG_STEP     KIB(256) /* punched out of the log at a time */

/* "[N bytes lost]\r\n" on its way. */
struct console_note {
	char text[40];
	size_t len, sent; /* len 0: none */
};

struct console_client {
	struct console_hub *hub; /* NULL: free */
	struct loop_source source;
	int fd;
	/* Output. */
	uint64_t position; /* next byte to send */
	struct console_note note;
	bool listening;	   /* counted in hub->listeners: has all there is, wants what comes */
	bool output_ended; /* it reads no more */
	/* Input. */
	uint8_t *input; /* CONSOLE_CLIENT_INPUT bytes of the hub's mapping */
	size_t input_start, input_len;
	bool queued; /* in hub->input_head's list */
	bool input_ended;
	struct console_client *input_next;
};

struct console_log {
	int fd;			   /* -1: none */
	uint64_t offset;	   /* in the file */
	uint64_t punched;	   /* below it the file is a hole */
	uint64_t gap;		   /* bytes lost since the last that was written */
	bool cannot_punch, failed; /* was said */
	struct loop_timer timer;
};

struct console_hub {
	struct console_channel channel;
	struct console_hub_config config;

	/* Any thread. */
	pthread_mutex_t lock; /* from here to the blank line */
	uint8_t *ring;	      /* CONSOLE_HUB_RING bytes; the pointer itself never changes */
	uint64_t end;	      /* position behind the newest byte */
	uint32_t listeners;
	bool logging, log_timed; /* there is a log; main comes to write it by itself */
	uint64_t logged;	 /* position: next byte for the log */
	bool output_posted;

	struct loop_post output_post, input_post;
	_Atomic bool input_posted;

	/* Main. */
	uint8_t *mapping, *piece; /* ring, pending input of all clients, a piece of output */
	bool started;
	int listen_fd;
	struct loop_source listen;
	struct loop_timer listen_again;
	struct console_log log;
	struct console_client *input_head, **input_tail; /* in the order of arrival */
	uint64_t input_bytes, lost_bytes;
	uint32_t client_count;
	struct console_client clients[CONSOLE_HUB_CLIENTS];
};

/* The oldest position that the ring holds; with the lock. */
static inline uint64_t console_hub_oldest(const struct console_hub *hub)
{
	return hub->end > CONSOLE_HUB_RING ? hub->end - CONSOLE_HUB_RING : 0;
}

/*
 * Copies up to `size` bytes from *position on; the caller moves it on by what it could pass on. If
 * what lies there has been overwritten, *position moves to the oldest byte, *lost gets the
 * difference, and nothing is copied.
 */
size_t console_hub_read(struct console_hub *hub, uint64_t *position, uint8_t *buf, size_t size,
			uint64_t *lost);
uint64_t console_hub_end(struct console_hub *hub);
void console_note_set(struct console_note *note, uint64_t lost);

/* Output has come: sends it to all clients. */
void console_clients_output(struct console_hub *hub);
/* Gives the guest what waits, in order, as far as it takes it. */
void console_clients_deliver(struct console_hub *hub);
/* Sends what still waits until `deadline_ns`, then lets all clients go. */
void console_clients_finish(struct console_hub *hub, uint64_t deadline_ns);

/* Writes what is there; called by the timer and at the end. */
void console_log_write(struct console_hub *hub);

#endif
