/* The Grackle bridge: find the macio chip and give it an address, as firmware would. */
#include "kern.h"
#include "ppc.h"
#include "vm.h"

#define GRACKLE_ADDRESS 0xfec00000u
#define GRACKLE_DATA 0xfee00000u
#define PCI_MEMORY 0x80000000u
#define MACIO_SIZE 0x80000u
#define VENDOR_APPLE 0x106bu

static vm_offset_t config_select(uint32_t device, uint32_t offset)
{
    store_reversed(GRACKLE_ADDRESS, 0x80000000u | device << 11 | (offset & 0xfc));
    return GRACKLE_DATA + (offset & 3);
}

uint32_t pci_config_read(uint32_t device, uint32_t offset)
{
    return load_reversed(config_select(device, offset));
}

void pci_config_write(uint32_t device, uint32_t offset, uint32_t value)
{
    store_reversed(config_select(device, offset), value);
}

static bool is_macio(uint32_t device)
{
    uint32_t id = pci_config_read(device, 0), class = pci_config_read(device, 8) >> 16;
    return (id & 0xffff) == VENDOR_APPLE && class == 0xff00;
}

void pci_bring_up(void)
{
    pmap_map(GRACKLE_ADDRESS, GRACKLE_ADDRESS, PAGE_SIZE, VM_PROT_WRITE, VM_MEM_GUARDED);
    pmap_map(GRACKLE_DATA, GRACKLE_DATA, PAGE_SIZE, VM_PROT_WRITE, VM_MEM_GUARDED);
    pmap_map(PCI_MEMORY, PCI_MEMORY, MACIO_SIZE, VM_PROT_WRITE, VM_MEM_GUARDED);
    for (uint32_t device = 0; device < 32; device++) {
        if (!is_macio(device))
            continue;
        pci_config_write(device, 0x10, PCI_MEMORY);
        pci_config_write(device, 0x04, pci_config_read(device, 0x04) | 6); /* memory, bus master */
        scc_init(PCI_MEMORY);
        pic_init(PCI_MEMORY);
        via_init(PCI_MEMORY);
        return;
    }
    machine_halt(); /* no console to say why */
}
