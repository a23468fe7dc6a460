/* A kernel of one's own: it counts steps, and tells once a second. */

typedef unsigned int u32;

#define TIMEBASE_HZ 16600000u
#define TICKS_PER_SECOND 100u
#define MACIO 0x80000000u
#define SERIAL (MACIO + 0x13020u) /* channel A of the ESCC; its data register is 16 bytes behind */
#define BRIDGE_ADDRESS 0xfec00000u
#define BRIDGE_DATA 0xfee00000u

static volatile u32 ticks;
static u32 steps, sum;

/* ---- the serial chip, in a chip on the PCI bus that needs an address first ---------------------- */

static void put_byte(u32 address, u32 value)
{
    *(volatile unsigned char *)address = (unsigned char)value;
    __asm__ volatile("eieio" ::: "memory");
}

static void pci(u32 device, u32 offset, u32 value)
{
    __asm__ volatile("stwbrx %0,0,%1\n eieio" ::"r"(0x80000000u | device << 11 | offset), "r"(BRIDGE_ADDRESS)
                     : "memory");
    __asm__ volatile("stwbrx %0,0,%1\n eieio" ::"r"(value), "r"(BRIDGE_DATA) : "memory");
}

static u32 pci_read(u32 device, u32 offset)
{
    u32 value;
    __asm__ volatile("stwbrx %0,0,%1\n eieio" ::"r"(0x80000000u | device << 11 | offset), "r"(BRIDGE_ADDRESS)
                     : "memory");
    __asm__ volatile("lwbrx %0,0,%1\n eieio" : "=r"(value) : "r"(BRIDGE_DATA) : "memory");
    return value;
}

static void serial_init(void)
{
    static const unsigned char setup[][2] = {
        {9, 0xc0}, {4, 0x44}, {3, 0xc0}, {5, 0x60}, {11, 0x50}, {12, 0}, {13, 0}, {14, 1}, {5, 0x6a},
    };
    for (u32 device = 0; device < 32; device++)
        if ((pci_read(device, 0) & 0xffff) == 0x106b && pci_read(device, 8) >> 16 == 0xff00) {
            pci(device, 0x10, MACIO);
            pci(device, 0x04, pci_read(device, 0x04) | 6);
        }
    __asm__ volatile("mtspr 540,%0\n isync" ::"r"(0)); /* the bridge is not needed any more */
    for (u32 i = 0; i < sizeof setup / sizeof setup[0]; i++) {
        put_byte(SERIAL, setup[i][0]);
        put_byte(SERIAL, setup[i][1]);
    }
}

static void put(char c)
{
    while (!(*(volatile unsigned char *)SERIAL & 4))
        ;
    put_byte(SERIAL + 16, (u32)c);
}

static void text(const char *from)
{
    while (*from)
        put(*from++);
}

static void number(u32 value, u32 base, u32 digits)
{
    char held[12];
    u32 count = 0;
    do
        held[count++] = "0123456789abcdef"[value % base];
    while ((value /= base) || count < digits);
    while (count)
        put(held[--count]);
}

static void begin_line(void)
{
    text("[");
    number(ticks / TICKS_PER_SECOND, 10, 1);
    text(".");
    number(ticks % TICKS_PER_SECOND * (1000 / TICKS_PER_SECOND), 10, 3);
    text("] own: ");
}

/* ---- exceptions ------------------------------------------------------------------------------------ */

void fault(const u32 *frame);
void tick(const u32 *frame);

void fault(const u32 *frame)
{
    begin_line();
    text("panic: exception at 0x");
    number(frame[40], 16, 8);
    text("\n");
    for (;;)
        ;
}

void tick(const u32 *frame)
{
    (void)frame;
    __asm__ volatile("mtdec %0" ::"r"(TIMEBASE_HZ / TICKS_PER_SECOND));
    ticks++;
}

/* ---- what it does ------------------------------------------------------------------------------------ */

__attribute__((noinline)) u32 step(u32 value);

u32 step(u32 value)
{
    u32 length = 0;
    for (; value != 1; length++)
        value = value & 1 ? 3 * value + 1 : value / 2;
    steps++;
    return length;
}

int main(void)
{
    u32 told = 0, value = 1;
    serial_init();
    __asm__ volatile("mtdec %0" ::"r"(TIMEBASE_HZ / TICKS_PER_SECOND));
    __asm__ volatile("mtmsr %0\n isync" ::"r"(0x9032));
    begin_line();
    text("ready\n");
    for (;;) {
        sum += step(value = value % 1000 + 1);
        if (ticks - told < TICKS_PER_SECOND)
            continue;
        told = ticks;
        begin_line();
        text("step ");
        number(steps, 10, 1);
        text(", sum ");
        number(sum, 10, 1);
        text("\n");
    }
}
