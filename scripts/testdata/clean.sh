# shellcheck shell=bash
# clean.sh CGROUP tests scripts/clean. scripts_test.go runs it in namespaces, with a cgroup
# for it alone.
set -euo pipefail
trap 'echo "line $LINENO failed: $BASH_COMMAND"' ERR
clean=$(realpath ../scripts/clean)

# A host on which nothing else is: no cgroups but those below CGROUP, and no files but
# ours in /var/lib and /run.
mount -t tmpfs none /mnt
mkdir /mnt/cgroup /mnt/bin
mount --bind "$1" /mnt/cgroup
while read -r _ dir type _; do
	case $type in
	cgroup | cgroup2) [ "$dir" = /mnt/cgroup ] || umount -l "$dir" ;;
	esac
done < <(tac /proc/self/mounts)
mount -t tmpfs none /var/lib
mount -t tmpfs none /run
cd /

# expect STATUS TEXT: clean ends with STATUS, and prints TEXT.
expect() {
	local status=0 text
	text=$("$clean" 2>&1) || status=$?
	[ "$status" = "$1" ] && [ "$text" = "$2" ] && return
	printf 'clean in line %s has status %s and prints\n%s\nnot status %s and\n%s\n' \
		"${BASH_LINENO[0]}" "$status" "$text" "$1" "$2"
	exit 1
}

# used leaves what containers leave.
used() {
	mkdir -p /var/lib/gocker/layers/x/etc /run/gocker
	echo 1 | tee /var/lib/gocker/layers/x/etc/passwd /run/gocker/addresses >/dev/null
	mkdir -p /mnt/cgroup/user/gocker/3f2a
	ip link add gocker0 type bridge
	nft add table ip gocker
}
everything="removed /run/gocker
removed /mnt/cgroup/user/gocker/3f2a
removed /mnt/cgroup/user/gocker
removed the bridge gocker0
removed the nftables table gocker"

expect 0 "there is nothing to remove"

used
expect 0 "removed /var/lib/gocker
$everything"
[ ! -e /var/lib/gocker ]
[ ! -e /run/gocker ]
[ -d /mnt/cgroup/user ]
[ ! -e /mnt/cgroup/user/gocker ]
[ -z "$(ip link show gocker0 2>/dev/null)" ]
[ -z "$(nft list tables)" ]
expect 0 "there is nothing to remove"

# A store that is a mount point, or a link to one, stays.
mkdir /var/lib/gocker
mount -t tmpfs none /var/lib/gocker
used
expect 0 "removed what was in /var/lib/gocker
$everything"
expect 0 "there is nothing to remove"
mountpoint -q /var/lib/gocker
umount /var/lib/gocker
rmdir /var/lib/gocker
mkdir /mnt/store
ln -s /mnt/store /var/lib/gocker
used
expect 0 "removed what was in /var/lib/gocker
$everything"
expect 0 "there is nothing to remove"
[ -L /var/lib/gocker ]
[ -d /mnt/store ]
rm /var/lib/gocker

# While a container runs, everything stays.
used
cp "$(command -v sleep)" /mnt/bin/gocker
/mnt/bin/gocker 1000 &
until [ "$(readlink /proc/$!/exe)" = /mnt/bin/gocker ]; do sleep 0.02; done
expect 1 "clean: a container runs, so nothing is removed: process $!"
[ -e /var/lib/gocker/layers ]
ip link show gocker0 >/dev/null
rm /mnt/bin/gocker # as after a build of another
expect 1 "clean: a container runs, so nothing is removed: process $!"
kill $!
wait $! || true
sleep 1000 &
echo $! >/mnt/cgroup/user/gocker/3f2a/cgroup.procs
expect 1 "clean: a container runs, so nothing is removed: /mnt/cgroup/user/gocker/3f2a"
kill $!
wait $! || true
expect 0 "removed /var/lib/gocker
$everything"

# Where something is mounted in the store, that stays, and clean says so.
mkdir -p /var/lib/gocker/mine
mount -t tmpfs none /var/lib/gocker/mine
touch /var/lib/gocker/mine/file
if "$clean" >/run/out 2>&1; then exit 1; fi
grep -qx "clean: /var/lib/gocker stays" /run/out
[ -e /var/lib/gocker/mine/file ]
umount /var/lib/gocker/mine
expect 0 "removed /var/lib/gocker"
