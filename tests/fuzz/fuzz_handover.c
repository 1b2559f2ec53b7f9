/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: one side of a hand-over and its peer's bytes. The first byte: & 1 the destination, & 2 checksums, magic and version are
 * made right, & 4 epochs and sequence numbers too, & 8 whole messages are such as may come now, and most reports good, & 16 all has
 * gone well until just before, or after, COMMIT. Then, again and again, a byte says what happens:
 *
 *	< 128	so many bytes of the peer's (0: a whole message: type, its length modulo 64, payload)
 *	else	another event, by its lower bits
 *
 * With & 8 even ones are messages, odd ones events.
 *
 * Beyond crashes: a destination runs only after COMMIT or with the source's word; a source that has sent COMMIT only by FAILED, by the
 * destination's word, or where it was vouched; nothing is said once the connection is closed.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_input.h"
#include "vmm/crc32c.h"
#include "vmm/handover_frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define EPOCH	 5
#define OWN_WORD 0x1234567890abcdefULL

struct side {
	struct handover h;
	struct handover_parser parser;
	struct handover_actions todo;
	enum handover_action_kind last; /* that is reported */
	uint64_t peer_epoch, peer_sequence;
	bool right, counted, apt;
	bool closed, committed, may_run;
};

static void check(bool right)
{
	if (!right) {
		abort();
	}
}

static void obey(struct side *s)
{
	check(s->todo.count <= HANDOVER_ACTIONS_MAX);
	for (size_t i = 0; i < s->todo.count; i++) {
		const struct handover_action *action = &s->todo.all[i];

		check(action->kind < HANDOVER_ACTION_KINDS);
		switch (action->kind) {
		case HANDOVER_SEND:
			check(!s->closed);
			check(handover_message_info(action->message)->to != s->h.role);
			if (action->message == HANDOVER_COMMIT) {
				s->committed = true;
				s->may_run = false;
			}
			break;
		case HANDOVER_CLOSE:
			check(!s->closed);
			s->closed = true;
			break;
		case HANDOVER_RUN:
			check(s->may_run);
			break;
		default:
			break;
		}
		if (action->kind != HANDOVER_SEND && action->kind != HANDOVER_CLOSE &&
		    action->kind < HANDOVER_SHOW_WORD) {
			s->last = action->kind;
		}
	}
	s->todo.count = 0;
}

static int tell(struct side *s, const struct handover_event *event)
{
	struct error e = { 0 };
	int r = handover_event(&s->h, event, &s->todo, &e);

	check((r < 0) == (e.msg[0] != '\0'));
	return r;
}

static void hear(struct side *s, const struct handover_frame *frame)
{
	struct handover_event event = handover_frame_event(frame);
	enum handover_state before = s->h.state;

	check(frame->len >= handover_message_info(frame->message)->min &&
	      frame->len <= handover_message_info(frame->message)->max);
	if (tell(s, &event) == 0 && s->h.state != before) {
		s->may_run |=
			frame->message == HANDOVER_COMMIT || frame->message == HANDOVER_FAILED;
	}
	obey(s);
}

static void take(struct side *s, const uint8_t *bytes, size_t len)
{
	while (len > 0 && !s->closed) {
		struct handover_frame frame;
		struct error e = { 0 };
		size_t used = 0;
		int r = handover_parser_take(&s->parser, bytes, len, &used, &frame, &e);

		check(used <= len && (r < 0) == (e.msg[0] != '\0') && (r != 0 || used == len));
		if (r < 0) {
			struct handover_event event = { .kind = HANDOVER_CLOSED };

			s->closed = true;
			(void)tell(s, &event);
			obey(s);
			return;
		}
		if (r == 1) {
			hear(s, &frame);
		}
		bytes += used;
		len -= used;
	}
}

/* One of those that the table has of this state; `type` itself if there is none. */
static uint16_t apt_type(const struct side *s, uint16_t type)
{
	/* Mostly the first, by which it goes on. */
	static const uint8_t index[16] = {
		[3] = 1, [7] = 2, [9] = 3, [11] = 3, [13] = 4, [14] = 3
	};
	struct handover_row row;
	uint16_t count = 0, chosen = type;

	for (size_t i = 0; handover_row(i, &row); i++) {
		if (row.from == s->h.state && row.event == HANDOVER_MESSAGE &&
		    count++ <= index[type % 16]) {
			chosen = (uint16_t)row.message;
		}
	}
	return chosen;
}

/* All goes well until COMMIT is what comes next, or RUNNING. */
static void advance(struct side *s)
{
	while (s->h.state != HANDOVER_S_COMMITTED && s->h.state != HANDOVER_D_PREPARED) {
		enum handover_action_kind awaits = handover_state_info(s->h.state)->awaits;
		struct handover_event event = { .kind = HANDOVER_DONE, .action = awaits };

		if (s->h.state == HANDOVER_S_COPYING) {
			event.kind = HANDOVER_CONVERGED;
		} else if (awaits == HANDOVER_ACTION_KINDS || awaits == HANDOVER_STORE) {
			event = (struct handover_event){
				.kind = HANDOVER_MESSAGE,
				.message = s->h.state == HANDOVER_D_RECEIVING
						   ? HANDOVER_PREPARE
						   : (enum handover_message)apt_type(s, 0),
				.epoch = EPOCH,
				.sequence = ++s->peer_sequence,
				.word = 1,
			};
		}
		check(tell(s, &event) == 0);
		obey(s);
	}
}

static void take_whole(struct side *s, struct fuzz_input *in)
{
	uint8_t bytes[HANDOVER_HEADER_SIZE + 64] = { 'V', 'M', 'M', 'H', HANDOVER_VERSION };
	uint16_t type = (uint16_t)fuzz_take(in, 1) % 16;
	uint32_t len = (uint32_t)fuzz_take(in, 1) % 64;

	if (s->apt) {
		type = apt_type(s, type);
		len = handover_message_info(type) != NULL ? handover_message_info(type)->min : len;
	}
	store_le16(bytes + 6, type);
	store_le64(bytes + 8, s->counted ? s->peer_epoch : fuzz_take(in, 1));
	store_le64(bytes + 16, s->counted ? ++s->peer_sequence : fuzz_take(in, 1));
	store_le32(bytes + 24, len);
	for (uint32_t i = 0; i < len; i++) {
		bytes[HANDOVER_HEADER_SIZE + i] = (uint8_t)fuzz_take(in, 1);
	}
	if (s->right) {
		store_le32(bytes + 28, crc32c(0, bytes + HANDOVER_HEADER_SIZE, len));
		store_le32(bytes + 32, crc32c(0, bytes, 32));
	}
	take(s, bytes, HANDOVER_HEADER_SIZE + len);
}

static void happen(struct side *s, struct fuzz_input *in, uint8_t what)
{
	struct handover_event event = {
		.kind = HANDOVER_BEGIN + (what & 0x7f) % (HANDOVER_EVENT_KINDS - HANDOVER_BEGIN),
		.action = s->last,
	};
	bool told = false;

	if (s->apt && what % 8 != 0) {
		event.kind = what % 8 == 1 ? HANDOVER_CONVERGED : HANDOVER_DONE;
	}
	if (event.kind == HANDOVER_DECIDE_RUN) {
		event.word = fuzz_take(in, 8);
	}
	if (event.kind == HANDOVER_CLOSED) {
		s->closed = true;
	}
	if (tell(s, &event) == 0) {
		told = event.kind == HANDOVER_DECIDE_RUN_VOUCHED ||
		       (event.kind == HANDOVER_DECIDE_RUN &&
			(event.word == s->h.peer_word || s->h.state == HANDOVER_S_RETAKING));
		check(event.kind != HANDOVER_DECIDE_RUN || told);
	}
	s->may_run |= told;
	obey(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	uint8_t how = (uint8_t)fuzz_take(&in, 1);
	struct side s = {
		.last = HANDOVER_ACTION_KINDS - 1,
		.peer_epoch = EPOCH,
		.right = (how & 2) != 0,
		.counted = (how & 4) != 0,
		.apt = (how & 8) != 0,
		.may_run = (how & 1) == 0,
	};

	if ((how & 1) != 0) {
		handover_destination_init(&s.h, EPOCH - 1, OWN_WORD);
		handover_parser_init(&s.parser, HANDOVER_DESTINATION);
	} else {
		struct handover_event event = { .kind = HANDOVER_BEGIN };

		handover_source_init(&s.h, EPOCH, OWN_WORD);
		handover_parser_init(&s.parser, HANDOVER_SOURCE);
		(void)tell(&s, &event);
		obey(&s);
	}
	if ((how & 16) != 0) {
		advance(&s);
	}
	while (in.len > 0) {
		uint8_t what = (uint8_t)fuzz_take(&in, 1);

		if (s.apt && (what & 1) != 0) {
			happen(&s, &in, what >> 1);
		} else if (s.apt || what == 0) {
			take_whole(&s, &in);
		} else if (what < 128) {
			size_t n = MIN((size_t)what, in.len);

			take(&s, in.data, n);
			in.data += n;
			in.len -= n;
		} else {
			happen(&s, &in, what);
		}
	}
	handover_parser_finish(&s.parser);
	return 0;
}
