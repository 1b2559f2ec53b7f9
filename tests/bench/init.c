/* SPDX-License-Identifier: Apache-2.0 */
/* The first process of a guest whose start is measured: says that it is there, and rests until it
 * is killed. */
#include <unistd.h>

int main(void)
{
	static const char mark[] = "init-is-here\n";

	if (write(STDOUT_FILENO, mark, sizeof(mark) - 1) < 0) {
		return 1;
	}
	for (;;) {
		pause();
	}
}
