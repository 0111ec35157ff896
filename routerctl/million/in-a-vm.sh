#!/bin/bash
# Runs run.sh in a virtual machine, for machines on which a process may not open a million files: Debian's kernel, a
# file system in memory with busybox and the two programs, nothing else. Needs the Debian packages qemu-system-x86,
# linux-image-amd64 and busybox-static. `bash in-a-vm.sh DIRECTORY [CONNECTIONS] [MEMORY]`; QEMU_ACCEL=kvm where that works, without
# it the processor is emulated, and times are those of a machine that is ten times slower.
set -euo pipefail
programs=${1:?"usage: bash in-a-vm.sh DIRECTORY [CONNECTIONS] [MEMORY]"}
connections=${2:-1000000}
memory=${3:-16G}
here=$(cd "$(dirname "$0")" && pwd)
kernel=$(ls /boot/vmlinuz-* | sort --version-sort | tail -1)
root=$(mktemp --directory)
trap 'rm -rf "$root"' EXIT

mkdir -p "$root"/{bin,dev,proc,sys,tmp}
cp /bin/busybox "$programs/router" "$programs/routerctl" "$here/run.sh" "$root/bin/"
for name in sh mount cat ip poweroff echo uname grep mktemp rm dmesg; do ln -s busybox "$root/bin/$name"; done
# The libraries that the programs name, at the places where they look for them.
ldd "$programs/router" "$programs/routerctl" | grep --only-matching '/lib[^ ]*' | sort --unique | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp --dereference "$library" "$root$library"
done
cat > "$root/init" <<INIT
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
ip link set lo up
uname -sr
grep -m 1 'model name' /proc/cpuinfo
grep MemTotal /proc/meminfo
dmesg | grep 'TCP established hash'
sh /bin/run.sh /bin $connections
grep -E 'MemAvailable|Slab' /proc/meminfo
poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . -mindepth 1 | cpio --quiet --create --format=newc | gzip --fast) > "$root.cpio.gz"
trap 'rm -rf "$root" "$root.cpio.gz"' EXIT

# Both ends of each connection are in the kernel's table of them, in which every packet looks its own up: with the
# usual 131,072 buckets it would pass sixteen others there.
table=$((connections * 4))
accel=${QEMU_ACCEL:-tcg,thread=multi}
qemu-system-x86_64 -accel "$accel" -cpu max -m "$memory" -smp "$(nproc)" -nographic -no-reboot -nic none \
    -kernel "$kernel" -initrd "$root.cpio.gz" -append "console=ttyS0 panic=-1 quiet nokaslr thash_entries=$table"
