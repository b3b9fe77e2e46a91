# shellcheck shell=bash
# Every script sources this first.

# help prints the comment at the top of the script, and ends it.
help() {
	sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
	exit
}
case ${1:-} in
-h | --help) help ;;
esac

PATH=$PATH:/usr/sbin:/sbin # where a user's own PATH may not lead
