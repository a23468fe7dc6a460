# Build build/own.elf with the cross compiler.
set -e
cd "$(dirname "$0")"
mkdir -p build
exec powerpc-linux-gnu-gcc -mcpu=750 -O2 -g -ffreestanding -fno-pic -no-pie -nostdlib -msoft-float \
    -Wall -Wextra -Wl,--build-id=none -Wl,-T,own.ld -o build/own.elf start.S own.c
