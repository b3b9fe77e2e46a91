package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/docker/cli/templates"
	"github.com/google/nftables"
	"github.com/moby/sys/capability"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

const gockerVersion = "0.9"

// A finding is something of this host that gocker depends on.
type finding struct {
	Subject string
	Seen    string
	Remedy  string // what to do about it; empty if it is as it should be
}

func (f finding) String() string {
	if f.Remedy == "" {
		return f.Subject + ": " + f.Seen
	}
	return f.Subject + ": " + f.Seen + ": " + f.Remedy
}

// infoCommand says what this host can do, and what would bite.
func infoCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "info",
		Short: "Display what this host can do, and what would bite",
		Args:  cobra.NoArgs,
	}
	format := command.Flags().StringP("format", "f", "", "Format output using a custom Go template")
	command.RunE = func(command *cobra.Command, args []string) error {
		findings, err := inspectHost()
		if err != nil {
			return err
		}
		if *format != "" {
			return printTemplate(command.OutOrStdout(), *format, map[string]any{
				"ServerVersion": gockerVersion,
				"OSType":        goruntime.GOOS,
				"Architecture":  goruntime.GOARCH,
				"NCPU":          goruntime.NumCPU(),
				"KernelVersion": kernelRelease(),
				"CgroupVersion": cgroupVersion(),
				"Driver":        "overlayfs",
				"DockerRootDir": storeDir,
				"Findings":      findings,
			})
		}
		for _, finding := range findings {
			fmt.Fprintln(command.OutOrStdout(), finding)
		}
		return nil
	}
	return command
}

// versionCommand says which gocker this is.
func versionCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Args:  cobra.NoArgs,
	}
	format := command.Flags().StringP("format", "f", "", "Format output using a custom Go template")
	command.RunE = func(command *cobra.Command, args []string) error {
		version := map[string]string{
			"Version":       gockerVersion,
			"GitCommit":     "unknown",
			"GoVersion":     goruntime.Version(),
			"Os":            goruntime.GOOS,
			"Arch":          goruntime.GOARCH,
			"KernelVersion": kernelRelease(),
		}
		if build, ok := debug.ReadBuildInfo(); ok {
			for _, setting := range build.Settings {
				if setting.Key == "vcs.revision" {
					version["GitCommit"] = setting.Value
				}
			}
		}
		if *format != "" { // docker's client and its server are one here
			both := map[string]any{"Client": version, "Server": version}
			return printTemplate(command.OutOrStdout(), *format, both)
		}
		for _, key := range []string{"Version", "GitCommit", "GoVersion", "Os", "Arch", "KernelVersion"} {
			fmt.Fprintf(command.OutOrStdout(), "%-14s %s\n", key+":", version[key])
		}
		return nil
	}
	return command
}

// printTemplate prints value as format, a template as docker's --format has it, or "json", says.
func printTemplate(out io.Writer, format string, value any) error {
	if format == "json" {
		format = "{{json .}}"
	}
	parsed, err := templates.Parse(format)
	if err != nil {
		return fmt.Errorf("template parsing error: %w", err)
	}
	if err := parsed.Option("missingkey=error").Execute(out, value); err != nil {
		return fmt.Errorf("template parsing error: %w", err)
	}
	_, err = fmt.Fprintln(out)
	return err
}

// inspectHost looks at all that gocker depends on.
func inspectHost() ([]finding, error) {
	firewalls, err := inspectFirewalls()
	if err != nil {
		return nil, err
	}
	findings := []finding{inspectKernel(), inspectCgroups(), inspectStore(), inspectCapabilities()}
	return append(findings, firewalls...), nil
}

// kernelRelease is what uname(2) calls release.
func kernelRelease() string {
	var name unix.Utsname
	unix.Uname(&name) // fails only if the address is bad
	return unix.ByteSliceToString(name.Release[:])
}

func inspectKernel() finding {
	f := finding{Subject: "Kernel", Seen: kernelRelease()}
	var major, minor int
	fmt.Sscanf(f.Seen, "%d.%d", &major, &minor) // what is no number stays 0, and is too old
	if major < 5 || major == 5 && minor < 10 {
		f.Remedy = "gocker needs Linux 5.10 or later, install one"
	}
	return f
}

const cgroupRoot = "/sys/fs/cgroup"

// cgroupVersion is "2" where all controllers are in the one hierarchy of cgroups(7), version 2.
func cgroupVersion() string {
	var fs unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &fs); err == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
		return "2"
	}
	return "1"
}

// inspectCgroups finds the controllers that limits need. In version 1 each is a directory.
func inspectCgroups() finding {
	version := cgroupVersion()
	wanted := []string{"cpu", "cpuset", "memory", "pids"}
	available := strings.Fields(hostFile(cgroupRoot + "/cgroup.controllers"))
	if version == "1" {
		available = nil
		wanted = append(wanted, "devices", "freezer")
		for _, controller := range wanted {
			if _, err := os.Stat(filepath.Join(cgroupRoot, controller, "cgroup.procs")); err == nil {
				available = append(available, controller)
			}
		}
	}
	f := finding{Subject: "Cgroups", Seen: "version " + version + ", controllers " + strings.Join(available, " ")}
	missing := slices.DeleteFunc(wanted, func(name string) bool { return slices.Contains(available, name) })
	if len(missing) > 0 {
		f.Seen += ", without " + strings.Join(missing, " ")
		f.Remedy = "there are no limits of that kind; the boot parameter cgroup_enable=NAME may bring them"
	}
	return f
}

// inspectStore looks at the file system that the store is on, or would be.
func inspectStore() finding {
	names := map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.F2FS_SUPER_MAGIC: "f2fs", unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
		unix.NFS_SUPER_MAGIC: "nfs", unix.FUSE_SUPER_MAGIC: "fuse", unix.MSDOS_SUPER_MAGIC: "vfat",
	}
	dir := storeDir
	var fs unix.Statfs_t
	for unix.Statfs(dir, &fs) != nil && dir != "/" {
		dir = filepath.Dir(dir)
	}
	name, known := names[int64(fs.Type)]
	if !known {
		name = fmt.Sprintf("a file system of type %#x", fs.Type)
	}
	f := finding{Subject: "Store", Seen: storeDir + " on " + name}
	switch name {
	case "overlayfs", "nfs", "fuse", "vfat":
		f.Remedy = "it cannot be the upper directory of an overlay, mount ext4 or xfs there"
	case "tmpfs":
		f.Remedy = "images and containers take memory, and are gone after a reboot"
	}
	return f
}

// inspectCapabilities finds those that gocker uses itself, or gives to containers, and has not got.
func inspectCapabilities() finding {
	f := finding{Subject: "Capabilities", Seen: "all that are needed"}
	own, err := capability.NewPid2(0)
	if err == nil {
		err = own.Load()
	}
	if err != nil {
		f.Seen, f.Remedy = err.Error(), "mount /proc"
		return f
	}
	needed := []capability.Cap{
		capability.CAP_SYS_ADMIN, capability.CAP_NET_ADMIN, capability.CAP_SYS_PTRACE, capability.CAP_SYS_RESOURCE,
		capability.CAP_CHOWN, capability.CAP_DAC_OVERRIDE, capability.CAP_FSETID, capability.CAP_FOWNER,
		capability.CAP_MKNOD, capability.CAP_NET_RAW, capability.CAP_SETGID, capability.CAP_SETUID,
		capability.CAP_SETFCAP, capability.CAP_SETPCAP, capability.CAP_NET_BIND_SERVICE,
		capability.CAP_SYS_CHROOT, capability.CAP_KILL, capability.CAP_AUDIT_WRITE,
	}
	var missing []string
	for _, c := range needed {
		if !own.Get(capability.EFFECTIVE, c) {
			missing = append(missing, "CAP_"+strings.ToUpper(c.String()))
		}
	}
	if len(missing) > 0 {
		f.Seen = "without " + strings.Join(missing, " ")
		f.Remedy = "be root (sudo) on the host itself, not in a container; what needs them fails"
	}
	return f
}

// inspectFirewalls looks for what would keep containers from the world: nftables, rules in it or
// out of its sight, and docker.
func inspectFirewalls() ([]finding, error) {
	conn, err := nftables.New()
	if err == nil {
		_, err = conn.ListTables()
	}
	if err != nil {
		return []finding{{"Nftables", err.Error(), "modprobe nf_tables, as root"}}, nil
	}
	findings := []finding{{"Nftables", "there", ""}}
	if err := checkForwarding(); err != nil {
		findings = append(findings, finding{"Firewall", err.Error(), ""})
	}
	if legacy := strings.Fields(hostFile("/proc/net/ip_tables_names")); len(legacy) > 0 {
		remedy := "gocker does not see their rules; if they drop what containers send: " +
			strings.ReplaceAll(iptablesRemedy("FORWARD"), "iptables", "iptables-legacy")
		findings = append(findings, finding{"Iptables-legacy", "has tables " + strings.Join(legacy, " "), remedy})
	}
	rules, found, err := dockerUserRules(conn)
	if err != nil || !found {
		return findings, err
	}
	for i, rule := range dockerRules() {
		f := finding{Subject: "Docker", Seen: "has our rule -A DOCKER-USER " + []string{ruleIn, ruleOut}[i]}
		if findRule(rules, rule) == nil {
			f.Seen = "drops what containers send or get"
			f.Remedy = "the next container that is connected adds -A DOCKER-USER " + []string{ruleIn, ruleOut}[i]
		}
		findings = append(findings, f)
	}
	return findings, nil
}
