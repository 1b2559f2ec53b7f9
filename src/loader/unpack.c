/* SPDX-License-Identifier: Apache-2.0 */
#include "internal.h"
bool unpack_supported(const struct bzimage *bz, const struct source *src)
{
	(void)bz; (void)src; return false;
}
int unpack_load(const struct bzimage *bz, const struct source *src, struct guest_memory *mem,
		struct kernel *kernel, struct error *e)
{
	(void)bz; (void)src; (void)mem; (void)kernel; (void)e; return -1;
}
