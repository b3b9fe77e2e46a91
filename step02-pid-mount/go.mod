module gocker/step02-pid-mount

go 1.26.6

require (
	github.com/spf13/pflag v1.1.0
	golang.org/x/sys v0.49.0
)
