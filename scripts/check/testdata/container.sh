# For scripts that start a container, do something with it, and end it.
trap 'pkill -KILL -x gocker' EXIT
start() { # a container whose ID is then in $id
	gocker run "$@" >id &
	run=$!
	until [ -s id ]; do kill -0 $run || exit; sleep 0.02; done
	id=$(head -n 1 id)
}
stop() {
	pkill -KILL -P $run
	wait $run
	rm id
}
await() { # until the command succeeds
	for try in $(seq 150); do
		"$@" >/dev/null 2>&1 && return
		sleep 0.05
	done
	echo "in vain: $*"
	exit 1
}
