/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the functions of the PCI bus are, by the ids of their devices: what has to be known of a saved
 * machine before one like it can be built. A guest knows a device by its place, and devices that came and
 * went have left gaps that no configuration tells of. Private to src/vmm.
 *
 * Encoding, little-endian: u32 length of what follows, u16 version, the table `places` (vmm/state.h).
 */
#ifndef VMM_SRC_PLACES_H
#define VMM_SRC_PLACES_H

#include "machine.h"
#include "vmm/state.h"

#define PLACE_ID_MAX VM_ID_MAX

struct place {
	uint8_t devfn;
	uint32_t id_len;
	uint8_t id[PLACE_ID_MAX];
};

struct places {
	uint32_t count;
	struct place list[PLATFORM_VIRTIO_PCI_MAX];
};

extern const struct state_desc places_state;

/* Appends those of the machine, none if it has no PCI bus. */
int places_save(struct machine *machine, struct state_buf *buf, struct error *e);
/* Reads them off the front of [*data, *data + *len), which are moved behind them. ERROR_STATE. free(). */
int places_read(struct places **ret, const uint8_t **data, size_t *len, struct error *e);
/* False: the machine had no such device. */
bool places_find(const struct places *places, const char *id, uint8_t *devfn);

#endif
