/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM is made of, kept on disk until `vmm rm`: STATE/NAME/vm.json, a JSON object whose content
 * is its writer's (src/cli/definition.h). It outlives the VM, the runtime directory (which is often
 * a tmpfs) and the host's reboot.
 *
 * STATE is $VMM_STATE_DIR; else $VMM_RUNTIME_DIR/.state, so that who keeps VMs apart keeps all of
 * them apart; else /var/lib/vmm for root, $XDG_STATE_HOME/vmm or ~/.local/state/vmm for others.
 *
 * Directories are made with mode 0700, files with 0600; one that is somebody else's or writable for
 * others, or a symlink, is refused. A file is written beside its place, synced, and renamed: there
 * is the old one or the new one, whole. Who writes or removes holds the lock of that name
 * (run_directory_claim()); who reads need not.
 *
 * Any thread without a filter; a thread each.
 */
#ifndef VMM_DEFINITION_STORE_H
#define VMM_DEFINITION_STORE_H

#include "vmm/error.h"
#include "vmm/json.h"
#include "vmm/run_directory.h"
#include "vmm/types.h"

#define DEFINITION_MAX MIB(4) /* bytes of a file */

/* The directory above all definitions. ERROR_CONFIG if there can be none. */
int definition_root(char *buf, size_t size, struct error *e);
/* Nothing is written if it is there already, to the last byte. */
int definition_write(const char *name, const char *text, size_t len, struct error *e);
/* 0 also if there is none. Other files in its directory are not ours, and stay. */
int definition_remove(const char *name, struct error *e);
/* For who cannot open anything when the time comes to remove one: its directory, which is there; and by that, within a filter. */
int definition_open_directory(const char *name, struct error *e);
int definition_remove_at(int directory, struct error *e);
/* The caller owns *ret, an object. ERROR_NOT_FOUND if there is none. */
int definition_read(const char *name, json_t **ret, struct error *e);
bool definition_exists(const char *name);
/* Those that have one; as run_directory_list(), but neither `alive` nor `left` is set. */
int definition_list(struct run_entry **ret, size_t *count, struct error *e);

/*
 * Beside it, of a VM that is parked: parked.json, whose content is its writer's as well (src/cli/parked.h), and the directory of
 * its snapshot.
 */
int parked_write(const char *name, const char *text, size_t len, struct error *e);
/* As definition_read(). */
int parked_read(const char *name, json_t **ret, struct error *e);
/* Not the snapshot. */
int parked_remove(const char *name, struct error *e);
/* Where the snapshot is unless somebody says otherwise. Absolute. ERROR_NOT_FOUND if what is above is not there. */
int parked_directory(const char *name, char *buf, size_t size, struct error *e);
/* For who parks or unparks it (what is above is made), until the descriptor is closed or the process ends: ERROR_BUSY. */
int parked_lock(const char *name, int *ret, struct error *e);

#endif
