package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/cli/opts"
	"github.com/docker/go-units"
	dockercontainer "github.com/moby/moby/api/types/container"
	dockernetwork "github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// createOptions are the flags of create, which run has, too.
type createOptions struct {
	interactive, tty, remove, readOnly, publishAll, privileged, init, quiet      bool
	name, hostname, domainname, workdir, user, network, entrypoint, cidFile      string
	pull, platform, stopSignal, pid, ipc, restart                                string
	env, envFiles, volumes, mounts, tmpfs, publish, expose, dns                  []string
	dnsSearch, dnsOptions, addHosts, capAdd, capDrop, securityOptions, devices   []string
	labels, labelFiles, groups, sysctls                                          []string
	memory, memorySwap, memoryReservation, shmSize, cpus, cpusetCpus, cpusetMems string
	mem, swap                                                                    string
	cpuShares, cpuPeriod, cpuQuota, pidsLimit, pids                              int64
	oomScore, stopTimeout                                                        int
	ulimits                                                                      *opts.UlimitOpt
	entrypointSet, memorySwapSet, stopTimeoutSet                                 bool
}

// addFlags adds the flags of create and run to flags.
func (o *createOptions) addFlags(flags *pflag.FlagSet) {
	flags.SetInterspersed(false)             // what follows the image is not for gocker
	flags.Bool("help", false, "Print usage") // -h is the host name
	o.ulimits = opts.NewUlimitOpt(nil)
	for _, f := range []struct {
		to          *bool
		name, short string
		usage       string
	}{
		{&o.interactive, "interactive", "i", "Keep stdin open"},
		{&o.tty, "tty", "t", "Give the command a terminal"},
		{&o.readOnly, "read-only", "", "Mount the root file system read-only"},
		{&o.publishAll, "publish-all", "P", "Publish all exposed ports to random ports"},
		{&o.privileged, "privileged", "", "Give all capabilities and devices, and mask nothing"},
		{&o.init, "init", "", "Run an init that forwards signals and reaps processes"},
		{&o.quiet, "quiet", "q", "Show no progress of a pull"},
		{&o.remove, "rm", "", "Remove the container when it exits"},
	} {
		flags.BoolVarP(f.to, f.name, f.short, false, f.usage)
	}
	for _, f := range []struct {
		to                     *string
		name, short, by, usage string
	}{
		{&o.name, "name", "", "", "Name of the container"},
		{&o.hostname, "hostname", "h", "", "Host name in the container"},
		{&o.domainname, "domainname", "", "", "Domain name in the container"},
		{&o.workdir, "workdir", "w", "", "Working directory in the container"},
		{&o.user, "user", "u", "", "User (name or number, and group: user:group)"},
		{&o.network, "network", "", "default", "bridge, none, host or container:NAME"},
		{&o.entrypoint, "entrypoint", "", "", "Command in the place of the image's entrypoint"},
		{&o.cidFile, "cidfile", "", "", "Write the container's ID to a file"},
		{&o.pull, "pull", "", "missing", "When to pull the image: always, missing or never"},
		{&o.platform, "platform", "", "", "Platform of the image: os/arch[/variant]"},
		{&o.stopSignal, "stop-signal", "", "", "Signal that stop sends"},
		{&o.pid, "pid", "", "", "PID namespace: host or container:NAME"},
		{&o.ipc, "ipc", "", "", "IPC namespace: private, host or container:NAME"},
		{&o.restart, "restart", "", "no", "Restart policy; there is only no"},
		{&o.memory, "memory", "m", "", "Limit of memory, as 64m"},
		{&o.memorySwap, "memory-swap", "", "", "Limit of memory and swap together; -1 for none"},
		{&o.memoryReservation, "memory-reservation", "", "", "Memory that is left to it when there is little"},
		{&o.mem, "mem", "", "", "Limit of memory, in MB or as 64m (of the first gocker)"},
		{&o.swap, "swap", "", "", "Limit of swap, in MB or as 64m (of the first gocker)"},
		{&o.shmSize, "shm-size", "", "", "Size of /dev/shm, as 64m"},
		{&o.cpus, "cpus", "", "", "Number of CPUs, as 0.5"},
		{&o.cpusetCpus, "cpuset-cpus", "", "", "CPUs that it may use, as 0-2,4"},
		{&o.cpusetMems, "cpuset-mems", "", "", "Memory nodes that it may use, as 0,1"},
	} {
		flags.StringVarP(f.to, f.name, f.short, f.by, f.usage)
	}
	for _, f := range []struct {
		to                 *[]string
		name, short, usage string
	}{
		{&o.env, "env", "e", "Set an environment variable: NAME=VALUE, or NAME for ours"},
		{&o.envFiles, "env-file", "", "Read environment variables from a file"},
		{&o.volumes, "volume", "v", "Mount a directory or a volume: SOURCE:TARGET[:ro]"},
		{&o.mounts, "mount", "", "Mount something: type=bind|volume|tmpfs,source=,target=[,readonly]"},
		{&o.tmpfs, "tmpfs", "", "Mount a tmpfs: TARGET[:OPTIONS]"},
		{&o.publish, "publish", "p", "Publish a port: [[ADDRESS:]PORT:]PORT[/udp]"},
		{&o.expose, "expose", "", "Expose a port or a range"},
		{&o.dns, "dns", "", "Name server"},
		{&o.dnsSearch, "dns-search", "", "Domain to search names in"},
		{&o.dnsOptions, "dns-option", "", "Option for resolv.conf"},
		{&o.addHosts, "add-host", "", "Line for /etc/hosts: NAME:ADDRESS"},
		{&o.capAdd, "cap-add", "", "Add a capability"},
		{&o.capDrop, "cap-drop", "", "Drop a capability"},
		{&o.securityOptions, "security-opt", "", "no-new-privileges, seccomp=unconfined or seccomp=FILE"},
		{&o.devices, "device", "", "Give a device of the host: PATH[:PATH[:rwm]]"},
		{&o.labels, "label", "l", "Label: NAME=VALUE"},
		{&o.labelFiles, "label-file", "", "Read labels from a file"},
		{&o.groups, "group-add", "", "Additional group"},
		{&o.sysctls, "sysctl", "", "Set a sysctl of the container's namespaces: NAME=VALUE"},
	} {
		flags.StringArrayVarP(f.to, f.name, f.short, nil, f.usage)
	}
	flags.StringVar(&o.network, "net", "default", "")
	flags.MarkHidden("net")
	flags.Int64VarP(&o.cpuShares, "cpu-shares", "c", 0, "Share of CPU time when others want some: 1024 is the others'")
	flags.Int64Var(&o.cpuPeriod, "cpu-period", 0, "Period of the CPU quota, in µs")
	flags.Int64Var(&o.cpuQuota, "cpu-quota", 0, "CPU time in every period, in µs")
	flags.Int64Var(&o.pidsLimit, "pids-limit", 0, "Limit of processes and threads; -1 for none")
	flags.Int64Var(&o.pids, "pids", 0, "Limit of processes and threads (of the first gocker)")
	flags.IntVar(&o.oomScore, "oom-score-adj", 0, "How soon it is killed for want of memory: -1000 to 1000")
	flags.IntVar(&o.stopTimeout, "stop-timeout", 10, "Seconds that stop waits before it kills")
	flags.Var(o.ulimits, "ulimit", "Limit of a resource: NAME=SOFT[:HARD]")
}

// note takes note of which flags were given, where that makes a difference.
func (o *createOptions) note(flags *pflag.FlagSet) {
	o.entrypointSet = flags.Changed("entrypoint")
	o.memorySwapSet = flags.Changed("memory-swap")
	o.stopTimeoutSet = flags.Changed("stop-timeout")
}

func createCommand() *cobra.Command {
	var o createOptions
	command := &cobra.Command{
		Use:   "create [OPTIONS] IMAGE [COMMAND] [ARG...]",
		Short: "Create a container, without starting it",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			o.note(command.Flags())
			c, err := create(catchSignals(), args[0], args[1:], o)
			if err != nil {
				return failure{err, 1}
			}
			fmt.Println(c.ID)
			return nil
		},
	}
	o.addFlags(command.Flags())
	return command
}

func runCommand() *cobra.Command {
	var o createOptions
	detach := false
	command := &cobra.Command{
		Use:   "run [OPTIONS] IMAGE [COMMAND] [ARG...]",
		Short: "Run a command in a new container",
		Long: "Run a command in a new container.\n\n" +
			"In the foreground gocker itself watches over the container: SIGKILL for it is the end of the\n" +
			"container, too (docker's lives on). With -d another process does, and the container lives on.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			o.note(command.Flags())
			status, err := run(args[0], args[1:], o, detach)
			if err != nil && statusOf(err) == 1 && !errors.As(err, new(failure)) {
				err = failure{err, statusFailed}
			}
			return exitWith(status, err)
		},
	}
	o.addFlags(command.Flags())
	command.Flags().BoolVarP(&detach, "detach", "d", false, "Run in the background and print the container's ID")
	return command
}

var errNoTTY = errors.New("the input device is not a TTY")

// run runs argv in a new container of the image called reference.
func run(reference string, argv []string, o createOptions, detach bool) (int, error) {
	if o.tty && o.interactive && !detach && !term.IsTerminal(0) {
		return 0, failure{errNoTTY, 1}
	}
	signals := catchSignals()
	c, err := create(signals, reference, argv, o)
	if err != nil {
		return 0, err
	}
	if detach {
		if err := startMonitor(c); err != nil {
			return 0, errors.Join(err, c.removeIfAuto())
		}
		fmt.Println(c.ID)
		return 0, nil
	}
	status, err := c.run(ourStreams(o.interactive), signals, func() {})
	if err != nil {
		err = errors.Join(err, c.removeIfAuto())
	}
	return status, err
}

// removeIfAuto removes a container that could not be started, if --rm wants that.
func (c *container) removeIfAuto() error {
	if !c.HostConfig.AutoRemove {
		return nil
	}
	return removeContainer(c, true)
}

// create makes a container of the image called reference, pulling that where o.pull says so.
func create(ctx context.Context, reference string, argv []string, o createOptions) (*container, error) {
	if o.cidFile != "" {
		if _, err := os.Stat(o.cidFile); err == nil {
			return nil, fmt.Errorf("container ID file found, make sure the other container isn't running or delete %s", o.cidFile)
		}
	}
	if o.restart != "" && o.restart != "no" {
		policy, err := opts.ParseRestartPolicy(o.restart)
		if err != nil {
			return nil, err
		}
		if dockercontainer.ValidateRestartPolicy(policy) != nil {
			return nil, fmt.Errorf("invalid restart policy '%s'", policy.Name)
		}
		if o.remove {
			return nil, errors.New("conflicting options: cannot specify both --restart and --rm")
		}
		return nil, errors.New("gocker has no restart policies: there is no daemon that could restart a container")
	}
	if o.name != "" {
		if err := checkName(o.name); err != nil {
			return nil, err
		}
	}
	c := &container{ID: newID(), Name: o.name, ImageName: reference, Created: time.Now().UTC()}
	if c.Name == "" {
		c.Name = randomName()
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	host, err := o.hostConfig()
	if err != nil {
		return nil, err
	}
	c.HostConfig = host

	img, err := imageFor(ctx, reference, o)
	if err != nil {
		return nil, err
	}
	store, err := lockStore(false) // from here on nobody removes the image
	if err != nil {
		return nil, err
	}
	defer store.Close()
	if img, err = findImage(img.ID); err != nil {
		return nil, err
	}
	c.ImageID = img.ID
	if c.Config, err = o.config(img, reference, argv); err != nil {
		return nil, err
	}
	if c.Mounts, err = parseMounts(o.volumes, o.mounts, o.tmpfs, img, c.HostConfig); err != nil {
		return nil, err
	}
	exposed, bindings, err := parsePorts(o.publish, o.expose)
	if err != nil {
		return nil, err
	}
	c.HostConfig.PortBindings = bindings
	c.Config.ExposedPorts = exposed
	for port := range img.Config.ExposedPorts {
		parsed, err := dockernetwork.ParsePort(port)
		if err != nil {
			return nil, fmt.Errorf("the image exposes port %q: %w", port, err)
		}
		c.Config.ExposedPorts[parsed] = struct{}{}
	}
	if err := chooseNetwork(c); err != nil {
		return nil, err
	}
	if c.Config.Hostname == "" {
		c.Config.Hostname = shortID(c.ID)
	}
	if err := createContainer(c); err != nil {
		return nil, err
	}
	if o.cidFile != "" {
		if err := os.WriteFile(o.cidFile, []byte(c.ID), 0o644); err != nil {
			return nil, errors.Join(err, removeContainer(c, true))
		}
	}
	return c, nil
}

// imageFor returns the image called reference, and pulls it first where o.pull says so.
func imageFor(ctx context.Context, reference string, o createOptions) (*image, error) {
	switch o.pull {
	case "always":
		return pullImage(ctx, reference, o.platform, o.quiet)
	case "missing", "never":
	default:
		return nil, fmt.Errorf("invalid pull option: '%s': must be one of \"always\", \"missing\" or \"never\"", o.pull)
	}
	img, err := findImage(reference)
	if err == nil && o.platform != "" {
		ours, err := img.matches(o.platform)
		if err != nil {
			return nil, err
		}
		if !ours && o.pull == "never" {
			return nil, fmt.Errorf("image with reference %s was found but does not match the specified platform: wanted %s, actual: %s/%s",
				reference, o.platform, img.OS, img.Architecture)
		}
		if !ours {
			return pullImage(ctx, reference, o.platform, o.quiet)
		}
	}
	var missing noImage
	if !errors.As(err, &missing) || o.pull == "never" {
		return img, err
	}
	fmt.Fprintf(os.Stderr, "Unable to find image '%s' locally\n", string(missing))
	return pullImage(ctx, reference, o.platform, o.quiet)
}

// check refuses what no image can make right.
func (o *createOptions) check() error {
	if o.workdir != "" && !path.IsAbs(o.workdir) {
		return fmt.Errorf("the working directory '%s' is invalid, it needs to be an absolute path", o.workdir)
	}
	if o.stopSignal != "" {
		if _, err := parseSignal(o.stopSignal); err != nil {
			return err
		}
	}
	for _, option := range o.securityOptions {
		name, _ := splitOption(option)
		if !slices.Contains([]string{"no-new-privileges", "seccomp", "apparmor", "label", "systempaths"}, name) {
			return fmt.Errorf("invalid --security-opt 2: %q", option)
		}
	}
	if _, err := capabilities(o.capAdd, o.capDrop, o.privileged); err != nil {
		return err
	}
	for _, f := range []struct {
		flag   string
		values []string
		check  opts.ValidatorFctType
	}{
		{"--dns", o.dns, opts.ValidateIPAddress},
		{"--dns-search", o.dnsSearch, opts.ValidateDNSSearch},
		{"--add-host", o.addHosts, opts.ValidateExtraHost},
		{"-l, --label", o.labels, opts.ValidateLabel},
		{"--sysctl", o.sysctls, opts.ValidateSysctl},
	} {
		for _, value := range f.values {
			if _, err := f.check(value); err != nil {
				return fmt.Errorf("invalid argument %q for %q flag: %w", value, f.flag, err)
			}
		}
	}
	return nil
}

// config is the image's, with what the flags say instead.
func (o *createOptions) config(img *image, reference string, argv []string) (*dockercontainer.Config, error) {
	env, err := readEnv(o.envFiles, o.env)
	if err != nil {
		return nil, err
	}
	labels, err := opts.ReadKVStrings(o.labelFiles, o.labels)
	if err != nil {
		return nil, err
	}
	config := &dockercontainer.Config{
		Hostname: o.hostname, Domainname: o.domainname, User: img.Config.User,
		Tty: o.tty, OpenStdin: o.interactive, StdinOnce: o.interactive,
		AttachStdin: o.interactive, AttachStdout: true, AttachStderr: true,
		Env: overImage(env, img.Config.Env), Image: reference,
		Cmd: img.Config.Cmd, Entrypoint: img.Config.Entrypoint, WorkingDir: img.Config.WorkingDir,
		Volumes: img.Config.Volumes, Labels: map[string]string{}, StopSignal: img.Config.StopSignal,
	}
	for _, from := range []map[string]string{img.Config.Labels, opts.ConvertKVStringsToMap(labels)} {
		for name, value := range from {
			config.Labels[name] = value
		}
	}
	if len(argv) > 0 {
		config.Cmd = argv
	}
	if o.entrypointSet {
		config.Entrypoint = nil
		if o.entrypoint != "" {
			config.Entrypoint = []string{o.entrypoint}
		}
		config.Cmd = argv
	}
	if len(config.Cmd)+len(config.Entrypoint) == 0 {
		return nil, errors.New("no command specified")
	}
	if o.user != "" {
		config.User = o.user
	}
	if o.workdir != "" {
		config.WorkingDir = o.workdir
	}
	if o.stopSignal != "" {
		config.StopSignal = o.stopSignal
	}
	if o.stopTimeoutSet {
		config.StopTimeout = &o.stopTimeout
	}
	return config, nil
}

// hostConfig is what the flags say of the host's side.
func (o *createOptions) hostConfig() (*dockercontainer.HostConfig, error) {
	host := &dockercontainer.HostConfig{
		ContainerIDFile: o.cidFile, AutoRemove: o.remove, Privileged: o.privileged,
		NetworkMode: dockercontainer.NetworkMode(o.network), PidMode: dockercontainer.PidMode(o.pid),
		IpcMode: dockercontainer.IpcMode(o.ipc), PublishAllPorts: o.publishAll, ReadonlyRootfs: o.readOnly,
		CapAdd: o.capAdd, CapDrop: o.capDrop, SecurityOpt: o.securityOptions, GroupAdd: o.groups,
		DNSSearch: o.dnsSearch, DNSOptions: o.dnsOptions, ExtraHosts: o.addHosts, Binds: o.volumes,
		OomScoreAdj: o.oomScore, Sysctls: opts.ConvertKVStringsToMap(o.sysctls), ShmSize: 64 << 20,
		RestartPolicy: dockercontainer.RestartPolicy{Name: "no"},
	}
	if o.init {
		host.Init = &o.init
	}
	for i, option := range host.SecurityOpt {
		read, err := readSeccompFile(option)
		if err != nil {
			return nil, err
		}
		host.SecurityOpt[i] = read
	}
	for _, server := range o.dns {
		address, err := netip.ParseAddr(server)
		if err != nil {
			return nil, err
		}
		host.DNS = append(host.DNS, address)
	}
	for _, device := range o.devices {
		host.Devices = append(host.Devices, parseDevice(device))
	}
	if o.shmSize != "" {
		size, err := units.RAMInBytes(o.shmSize)
		if err != nil || size < 1 {
			return nil, fmt.Errorf("invalid argument %q for \"--shm-size\" flag: invalid size: '%s'", o.shmSize, o.shmSize)
		}
		host.ShmSize = size
	}
	host.Ulimits = o.ulimits.GetList()
	return host, o.limit(&host.Resources)
}

// limit puts the limits of the flags into r.
func (o *createOptions) limit(r *dockercontainer.Resources) error {
	r.CPUShares, r.CPUPeriod, r.CPUQuota = o.cpuShares, o.cpuPeriod, o.cpuQuota
	r.CpusetCpus, r.CpusetMems = o.cpusetCpus, o.cpusetMems
	if o.pids != 0 {
		o.pidsLimit = o.pids
	}
	if o.pidsLimit != 0 {
		r.PidsLimit = &o.pidsLimit
	}
	if o.cpus != "" {
		cpus, err := opts.ParseCPUs(o.cpus)
		if err != nil {
			return fmt.Errorf("invalid argument %q for \"--cpus\" flag: %w", o.cpus, err)
		}
		if most := int64(runtime.NumCPU()); cpus < 0 || cpus > most*1e9 || cpus > 0 && cpus < 1e7 {
			return fmt.Errorf("Range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", most, most)
		}
		r.NanoCPUs = cpus
	}
	for _, size := range []struct {
		text, flag string
		to         *int64
	}{
		{o.memory, "-m, --memory", &r.Memory}, {o.memoryReservation, "--memory-reservation", &r.MemoryReservation},
		{megabytes(o.mem), "--mem", &r.Memory},
	} {
		if size.text == "" {
			continue
		}
		bytes, err := units.RAMInBytes(size.text)
		if err != nil {
			return fmt.Errorf("invalid argument %q for %q flag: %w", size.text, size.flag, err)
		}
		*size.to = bytes
	}
	if r.Memory != 0 && r.Memory < 6<<20 {
		return errors.New("Minimum memory limit allowed is 6MB")
	}
	if o.swap != "" { // beside memory, where docker's is both together
		bytes, err := units.RAMInBytes(megabytes(o.swap))
		if err != nil || bytes < 0 || r.Memory == 0 {
			return fmt.Errorf("invalid argument %q for \"--swap\" flag: a size, and --mem with it", o.swap)
		}
		r.MemorySwap = r.Memory + bytes
	}
	if o.memorySwapSet {
		var swap opts.MemSwapBytes
		if err := swap.Set(o.memorySwap); err != nil {
			return fmt.Errorf("invalid argument %q for \"--memory-swap\" flag: %w", o.memorySwap, err)
		}
		r.MemorySwap = swap.Value()
		switch {
		case r.MemorySwap > 0 && r.Memory == 0:
			return errors.New("You should always set the Memory limit when using Memoryswap limit, see usage")
		case r.MemorySwap > 0 && r.MemorySwap < r.Memory:
			return errors.New("Minimum memoryswap limit should be larger than memory limit, see usage")
		}
	}
	if r.Memory > 0 && r.MemorySwap == 0 && o.swap == "" {
		r.MemorySwap = 2 * r.Memory // as docker
		if o.mem != "" {
			r.MemorySwap = r.Memory
		}
	}
	return nil
}

// megabytes is size with the unit that the first gocker gave to a bare number.
func megabytes(size string) string {
	if _, err := strconv.ParseFloat(size, 64); err == nil {
		return size + "m"
	}
	return size
}

// parseDevice reads PATH[:PATH[:PERMISSIONS]].
func parseDevice(device string) dockercontainer.DeviceMapping {
	parts := strings.SplitN(device, ":", 3)
	m := dockercontainer.DeviceMapping{PathOnHost: parts[0], PathInContainer: parts[0], CgroupPermissions: "rwm"}
	switch {
	case len(parts) == 3:
		m.PathInContainer, m.CgroupPermissions = parts[1], parts[2]
	case len(parts) == 2 && strings.Trim(parts[1], "rwm") == "":
		m.CgroupPermissions = parts[1]
	case len(parts) == 2:
		m.PathInContainer = parts[1]
	}
	return m
}

// startCommand starts containers that were created or have ended.
func startCommand() *cobra.Command {
	attach, interactive := false, false
	command := &cobra.Command{
		Use:   "start [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Start one or more stopped containers",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			if attach || interactive {
				if len(args) > 1 {
					return errors.New("you cannot start and attach multiple containers at once")
				}
				status, err := startAttached(args[0], interactive)
				return exitWith(status, err)
			}
			err := eachContainer(command.OutOrStdout(), args, func(c *container) error {
				if c.running() {
					return nil
				}
				return startMonitor(c)
			})
			if err != nil {
				err = failure{errors.Join(err, fmt.Errorf("failed to start containers: %s", strings.Join(args, ", "))), 1}
			}
			return err
		},
	}
	command.Flags().BoolVarP(&attach, "attach", "a", false, "Attach to the container's output")
	command.Flags().BoolVarP(&interactive, "interactive", "i", false, "Attach to the container's stdin, too")
	return command
}

// startAttached starts the container called name in the foreground.
func startAttached(name string, stdin bool) (int, error) {
	c, err := findContainer(name)
	if err != nil {
		return 0, failure{err, 1}
	}
	if c.running() {
		return 0, failure{fmt.Errorf("container %s is already running, and gocker cannot attach to it: its output is in gocker logs -f %[1]s", c.Name), 1}
	}
	status, err := c.run(ourStreams(stdin && c.Config.OpenStdin), catchSignals(), func() {})
	if err != nil {
		return 0, failure{err, 1}
	}
	return status, nil
}
