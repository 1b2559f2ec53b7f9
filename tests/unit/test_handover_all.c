/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that can happen to a hand-over, in every order: the two machines themselves, not a model of them. Whatever is done
 * comes out well or not, a cut and the end of time come at any moment, processes are killed, messages are heard twice, and operators
 * on both sides say whatever they can. What has been seen is not looked at again.
 */
#include "harness/handover_rig.h"

struct node {
	struct rig rig;
	uint8_t kills, doubles, failures; /* still to come */
};

/* What a run of the search has found. */
struct search {
	struct node *stack;
	size_t count, room;
	uint64_t *seen; /* hashes; 0: free */
	size_t seen_count, seen_room;
	size_t rests, doubts;
	bool operators;
};

static void *must(void *p)
{
	ck_assert_ptr_nonnull(p);
	return p;
}

static uint64_t mix(uint64_t hash, uint64_t v)
{
	hash = (hash ^ v) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 29;
}

/* Of all that can make a difference; no padding. */
static uint64_t hash_of(const struct node *node)
{
	uint64_t hash = mix(node->kills, (uint64_t)node->doubles << 8 | node->failures);

	hash = mix(hash, (uint64_t)node->rig.cut << 8 | node->rig.passes);
	for (int i = 0; i < 2; i++) {
		const struct rig_side *side = &node->rig.side[i];
		const struct rig_wire *wire = &node->rig.to[i];

		hash = mix(hash,
			   (uint64_t)side->dead | (uint64_t)side->runs << 1 |
				   (uint64_t)side->locks << 2 | (uint64_t)side->closed << 3 |
				   (uint64_t)side->heard_close << 4 |
				   (uint64_t)side->word_shown << 5 | (uint64_t)side->told_off << 6 |
				   (uint64_t)side->h.connected << 7 | (uint64_t)side->h.state << 8 |
				   side->h.sent << 16 | side->h.heard << 32);
		hash = mix(hash, side->h.epoch << 32 | side->h.peer_word << 16 | side->todo_count);
		for (int k = 0; k < side->todo_count; k++) {
			hash = mix(hash, (uint64_t)side->todo[k].kind << 32 |
						 side->todo[k].message << 16 |
						 side->todo[k].sequence);
		}
		hash = mix(hash, wire->count);
		for (int k = 0; k < wire->count; k++) {
			hash = mix(hash,
				   (uint64_t)wire->all[k].message << 16 | wire->all[k].sequence);
		}
	}
	return hash | 1;
}

static bool insert(uint64_t *table, size_t room, uint64_t hash)
{
	size_t at = hash >> 8 & (room - 1);

	while (table[at] != 0 && table[at] != hash) {
		at = (at + 1) & (room - 1);
	}
	if (table[at] == hash) {
		return false;
	}
	table[at] = hash;
	return true;
}

static bool is_new(struct search *s, uint64_t hash)
{
	if (s->seen_count * 2 >= s->seen_room) {
		size_t room = s->seen_room == 0 ? 1 << 16 : s->seen_room * 2;
		uint64_t *larger = must(calloc(room, sizeof(*larger)));

		for (size_t i = 0; i < s->seen_room; i++) {
			if (s->seen[i] != 0) {
				(void)insert(larger, room, s->seen[i]);
			}
		}
		free(s->seen);
		s->seen = larger;
		s->seen_room = room;
	}
	if (!insert(s->seen, s->seen_room, hash)) {
		return false;
	}
	s->seen_count++;
	return true;
}

static void push(struct search *s, const struct node *node)
{
	if (!is_new(s, hash_of(node))) {
		return;
	}
	if (s->count == s->room) {
		s->room = s->room == 0 ? 1024 : s->room * 2;
		s->stack = must(realloc(s->stack, s->room * sizeof(*s->stack)));
	}
	s->stack[s->count++] = *node;
}

static void push_told(struct search *s, const struct node *node, int who,
		      enum handover_event_kind kind)
{
	struct node next = *node;

	(void)rig_decide(&next.rig, who, kind);
	push(s, &next);
}

/* What a side does next; true: it has something to do. */
static bool push_done(struct search *s, const struct node *node, int who)
{
	const struct rig_side *side = &node->rig.side[who];
	struct node next = *node;

	if (side->dead || side->todo_count == 0) {
		return false;
	}
	(void)rig_do(&next.rig, who, true);
	push(s, &next);
	if (node->failures > 0 && rig_reported(side->todo[0].kind)) {
		next = *node;
		next.failures--;
		(void)rig_do(&next.rig, who, false);
		push(s, &next);
	}
	return true;
}

/* What comes over the wire to a side, and what ends that; true: something does. */
static bool push_heard(struct search *s, const struct node *node, int who)
{
	const struct rig *rig = &node->rig;
	struct node next = *node;
	bool some = false;

	if (rig->to[who].count > 0 && !rig->side[who].dead) {
		struct rig_message m = rig->to[who].all[0];

		some = true;
		(void)rig_deliver(&next.rig, who);
		push(s, &next);
		if (node->doubles > 0) {
			next.doubles--;
			(void)rig_hand(&next.rig, who, m);
			push(s, &next);
		}
		if (rig->cut) {
			/* It is gone, and who sent it may never know. */
			next = *node;
			(void)rig_take_off(&next.rig, who);
			push(s, &next);
		}
	}
	if (rig_can_hear_close(rig, who)) {
		some = true;
		push_told(s, node, who, HANDOVER_CLOSED);
	}
	if (!rig->side[who].dead && handover_state_info(rig_state(rig, who))->timed) {
		some = true;
		push_told(s, node, who, HANDOVER_TIME_OVER);
	}
	return some;
}

static void push_operators(struct search *s, const struct node *node, int who)
{
	push_told(s, node, who, HANDOVER_CANCEL);
	push_told(s, node, who, HANDOVER_DECIDE_RUN);
	push_told(s, node, who, HANDOVER_DECIDE_GIVE_UP);
	if (node->rig.side[OTHER(who)].dead) {
		push_told(s, node, who, HANDOVER_DECIDE_RUN_VOUCHED);
	}
}

static void expand(struct search *s, const struct node *node)
{
	bool some = false;

	for (int i = 0; i < 2; i++) {
		struct node next = *node;

		some |= push_done(s, node, i);
		some |= push_heard(s, node, i);
		if (s->operators && !node->rig.side[i].dead) {
			push_operators(s, node, i);
		}
		if (node->kills > 0 && !node->rig.side[i].dead) {
			next.kills--;
			rig_kill(&next.rig, i);
			push(s, &next);
		}
	}
	if (!node->rig.cut) {
		struct node next = *node;

		next.rig.cut = true;
		push(s, &next);
	}
	if (!some) {
		s->rests++;
		s->doubts +=
			rig_in_doubt(&node->rig, SOURCE) || rig_in_doubt(&node->rig, DESTINATION);
		rig_check_rest(&node->rig);
	}
}

static void search(struct search *s, uint8_t kills, uint8_t doubles, uint8_t failures,
		   bool operators)
{
	struct node node;

	memset(&node, 0, sizeof(node));
	node.kills = kills;
	node.doubles = doubles;
	node.failures = failures;
	rig_begin(&node.rig);
	s->operators = operators;
	push(s, &node);
	while (s->count > 0) {
		node = s->stack[--s->count];
		expand(s, &node);
	}
	fprintf(stderr, "# %zu situations, %zu of rest, %zu of them in doubt\n", s->seen_count,
		s->rests, s->doubts);
	ck_assert_uint_gt(s->rests, 0);
	ck_assert_uint_gt(s->doubts, 0);
}

static void finish(struct search *s)
{
	free(s->stack);
	free(s->seen);
}

struct extent {
	uint8_t kills, doubles, failures;
	bool operators;
};

static const struct extent extents[] = {
	{ 0, 0, 0, false },
	{ 0, 1, 0, false },
	{ 2, 0, 0, true },
};

START_TEST(test_every_order)
{
	const struct extent *extent = &extents[_i];
	struct search s = { 0 };

	search(&s, extent->kills, extent->doubles, extent->failures, extent->operators);
	finish(&s);
}
END_TEST

/* The widest search; and no row is there for nothing. */
START_TEST(test_every_row_is_taken)
{
	struct search s = { 0 };
	struct handover_row row;
	struct rig rig;

	search(&s, 1, 0, 2, true);
	finish(&s);
	/* Before the connection is used; the search begins after that. */
	memset(&rig, 0, sizeof(rig));
	for (int i = 0; i < 2; i++) {
		static const enum handover_event_kind kinds[] = { HANDOVER_CANCEL,
								  HANDOVER_CLOSED };

		handover_source_init(&rig.side[SOURCE].h, RIG_EPOCH, RIG_SOURCE_WORD);
		(void)rig_tell(&rig, SOURCE, kinds[i], 0);
	}
	for (size_t i = 0; handover_row(i, &row); i++) {
		int trigger = row.event == HANDOVER_MESSAGE ? (int)row.message
							    : HANDOVER_MESSAGES + (int)row.event;

		ck_assert_msg(rig_rows_taken[row.from][trigger], "never: %s in %s",
			      row.event == HANDOVER_MESSAGE
				      ? handover_message_info(row.message)->name
				      : handover_event_name(row.event),
			      handover_state_info(row.from)->name);
	}
}
END_TEST

CHECK_MAIN("handover_all", CHECK_TABLE(test_every_order, extents);
	   CHECK_TEST(test_every_row_is_taken))
