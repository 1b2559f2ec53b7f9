/* SPDX-License-Identifier: Apache-2.0 */
/* What of a guest's text reaches the user's terminal: whole, and cut at every byte. */
#include "harness/check_main.h"

#include "../../src/cli/plain_text.h"

static const struct row {
	const char *given, *want;
} rows[] = {
	{ "plain text\r\n\tmore", "plain text\r\n\tmore" },
	{ "\x1b[1;31mred\x1b[0m \x1b[38:5:1mx\x1b[m", "\x1b[1;31mred\x1b[0m \x1b[38:5:1mx\x1b[m" },
	/* Questions that a terminal would answer. */
	{ "a\x1b[6nb\x1b[c\x1b[>0qc", "abc" },
	{ "a\x1bP$q\"p\x1b\\b\x1b]11;?\x07"
	  "c\x1b]52;c;?\x1b\\d",
	  "abcd" },
	{ "title \x1b]0;rm -rf\x07gone", "title gone" },
	/* Screens, cursors, modes. */
	{ "\x1b[2J\x1b[H\x1b[?1049hx\x1b[10A\x1b"
	  "7\x1b(0y\x1b#8",
	  "xy" },
	{ "\x1b[?2004h$ ", "$ " },
	{ "bell\x07 back\b\x7f nul vt\v ff\f si\x0f so\x0e", "bell back nul vt ff si so" },
	/* Sequences that are cut, long, or within each other. */
	{ "a\x1b[31\nb", "a\nb" },
	{ "a\x1b[31\x1b[32mb", "a\x1b[32mb" },
	{ "a\x1b]0;title without end\nb", "a\nb" },
	{ "a\x1b]0;\x1b[31mb", "a\x1b[31mb" },
	{ "\x1b[1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1mx", "x" },
	{ "\x1b[31\x07mx", "\x1b[31mx" },
	{ "\x1b[<31mx\x1b[31 mx\x1b[=1mx", "xxx" },
	{ "\x1b\x1b\x1b[31mx", "\x1b[31mx" },
	{ "\x1b[31\x18y", "y" },
	/* UTF-8. */
	{ "\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa7", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa7" },
	{ "a\x9b"
	  "31mb\xff",
	  "a\xef\xbf\xbd"
	  "31mb\xef\xbf\xbd" },
	/* CSI as a character. */
	{ "a\xc2\x9b"
	  "6nb",
	  "a\xef\xbf\xbd"
	  "6nb" },
	{ "\xc2\xa0", "\xc2\xa0" },
	/* Too long, a surrogate, beyond the last, cut by text. */
	{ "\xc0\xaf|\xe0\x80\xaf|", "\xef\xbf\xbd\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd|" },
	{ "\xed\xa0\x80|", "\xef\xbf\xbd\xef\xbf\xbd|" },
	{ "\xf4\x90\x80\x80|", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd|" },
	{ "\xe2\x82|x\xf0\x9f\x1b[31m", "\xef\xbf\xbd|x\xef\xbf\xbd\x1b[31m" },
};

START_TEST(test_rows)
{
	const struct row *row = &rows[_i];
	size_t len = strlen(row->given);
	uint8_t got[1024];

	for (size_t cut = 0; cut <= len; cut++) {
		struct plain_text text = { 0 };
		size_t n = plain_text_filter(&text, (const uint8_t *)row->given, cut, got);

		n += plain_text_filter(&text, (const uint8_t *)row->given + cut, len - cut,
				       got + n);
		got[n] = '\0';
		ck_assert_str_eq((char *)got, row->want);
		ck_assert(text.coloured == (strstr(row->want, "\x1b[") != NULL));
	}
}
END_TEST

/* Whatever comes: never more than there is room for, and no control that was not meant to pass. */
START_TEST(test_noise)
{
	struct plain_text text = { 0 };
	uint8_t noise[256], got[PLAIN_TEXT_ROOM(sizeof(noise))];
	uint64_t seed = (uint64_t)_i + 1;

	for (int round = 0; round < 2000; round++) {
		size_t n;

		for (size_t i = 0; i < sizeof(noise); i++) {
			static const char liked[] = "\x1b[]m;0123\\\x07\xc2\x9b\xe2\x82P^\n";

			seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
			noise[i] = (seed >> 40 & 3) == 0
					   ? (uint8_t)(seed >> 56)
					   : (uint8_t)liked[(seed >> 48) % (sizeof(liked) - 1)];
		}
		n = plain_text_filter(&text, noise, sizeof(noise), got);
		if (n > sizeof(got)) {
			ck_abort_msg("%zu bytes", n);
		}
		for (size_t i = 0; i < n; i++) {
			uint8_t c = got[i];

			if ((c < ' ' && strchr("\n\t\r\x1b", c) == NULL) || c == 0 || c == 0x7f ||
			    (c == 0x1b && (i + 1 == n || got[i + 1] != '[')) ||
			    (c == 0xc2 && i + 1 < n && got[i + 1] < 0xa0)) {
				ck_abort_msg("byte %02x at %zu", c, i);
			}
		}
	}
}
END_TEST

CHECK_MAIN("plain_text", CHECK_TABLE(test_rows, rows); CHECK_LOOP(test_noise, 8))
