# shellcheck shell=sh
# For every login: the repository, and no virtual machine within this one. This one is
# what scripts/test would make, a Debian kernel with systemd and cgroup v2.
export GOCKER_TEST_VM=0 GOCKER_TEST_VAGRANT=0
if [ "$PWD" = /home/vagrant ]; then
	cd /gocker || true
fi
