// SPDX-License-Identifier: Apache-2.0
/* See escape.h. The user controls every byte; nothing here allocates or waits. */
#include "escape.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define HELP   (-1)
#define DETACH (-2)

static const struct key {
	uint8_t key;
	int command; /* enum escape_command, or one of the above */
	const char *help;
} keys[] = {
	{ '?', HELP, "this help" },
	{ 'd', DETACH, "detach: the VM goes on" },
	{ 'q', ESCAPE_POWER_BUTTON, "press the power button" },
	{ 'k', ESCAPE_STOP, "stop the VM at once" },
	{ 'r', ESCAPE_RESET, "reset the machine" },
	{ 'c', ESCAPE_CTRL_ALT_DEL, "send Ctrl-Alt-Del" },
};

/* The key after the prefix. True if the key itself is for the guest. */
static bool take_key(struct escape *escape, uint8_t key)
{
	int command = HELP;

	if (key == (uint8_t)escape->key) {
		return true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		command = keys[i].key == key ? keys[i].command : command;
	}
	if (command == HELP) {
		escape->help(escape);
	} else if (command == DETACH) {
		escape->detach(escape);
	} else {
		escape->command(escape, (enum escape_command)command);
	}
	return false;
}

size_t escape_filter(struct escape *escape, uint8_t *data, size_t len)
{
	size_t kept = 0;

	if (escape->key == ESCAPE_KEY_NONE) {
		return len;
	}
	for (size_t i = 0; i < len; i++) {
		if (escape->waiting) {
			escape->waiting = false;
			if (take_key(escape, data[i])) {
				data[kept++] = data[i];
			}
		} else if (data[i] == (uint8_t)escape->key) {
			escape->waiting = true;
		} else {
			data[kept++] = data[i];
		}
	}
	return kept;
}

bool escape_expire(struct escape *escape, uint8_t *byte)
{
	if (!escape->waiting) {
		return false;
	}
	escape->waiting = false;
	*byte = (uint8_t)escape->key;
	return true;
}

int escape_parse_key(const char *text, int *key, struct error *e)
{
	const char *letter = NULL;

	if (strcmp(text, "none") == 0) {
		*key = ESCAPE_KEY_NONE;
		return 0;
	}
	if (text[0] == '^') {
		letter = text + 1;
	} else if (strncasecmp(text, "ctrl-", 5) == 0) {
		letter = text + 5;
	}
	/* Those of Enter, Tab and Escape are typed all the time. */
	if (letter != NULL && letter[0] != '\0' && letter[1] == '\0') {
		int c = toupper((unsigned char)letter[0]);

		if (c >= 'A' && c <= '_' && strchr("HIJM[", c) == NULL) {
			*key = c - '@';
			return 0;
		}
	}
	(void)error_set(e, ERROR_USAGE, EINVAL, "--escape: '%.40s' is not a key", text);
	return error_hint(e, "ctrl-a to ctrl-z, ctrl-\\, ctrl-], ctrl-^ or ctrl-_, but not those "
			     "of Backspace, Tab and Enter (h, i, j, m); or none");
}

void escape_key_name(int key, char buf[8])
{
	(void)snprintf(buf, 8, "Ctrl-%c",
		       key < 0 ? '?' : tolower((unsigned char)((key & 0x1f) + '@')));
}

size_t escape_help(const struct escape *escape, char buf[ESCAPE_HELP_SIZE])
{
	char key[8];
	size_t len;

	escape_key_name(escape->key, key);
	len = (size_t)snprintf(buf, ESCAPE_HELP_SIZE, "\r\n");
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (keys[i].command != DETACH || escape->can_detach) {
			len += (size_t)snprintf(buf + len, ESCAPE_HELP_SIZE - len, "%s %-8c%s\r\n",
						key, keys[i].key, keys[i].help);
		}
	}
	len += (size_t)snprintf(buf + len, ESCAPE_HELP_SIZE - len,
				"%s %-8ssend %s to the guest\r\n", key, key, key);
	return len;
}
