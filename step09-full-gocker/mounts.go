package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/cli/opts"
	dockercontainer "github.com/moby/moby/api/types/container"
	mounttypes "github.com/moby/moby/api/types/mount"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step09-full-gocker/runtime"
)

// parseMounts reads run's flags -v (volumes), --mount (mounts) and --tmpfs, checks them by docker's
// rules, notes them in host as docker does (Binds, Mounts, Tmpfs; of --tmpfs nothing else is kept),
// and adds img's volumes. A volume without a name gets a random one. Nothing is made yet.
func parseMounts(volumes, mounts, tmpfs []string, img *image, host *dockercontainer.HostConfig) ([]dockercontainer.MountPoint, error) {
	host.Binds, host.Mounts, host.Tmpfs = nil, nil, nil
	var points []dockercontainer.MountPoint
	var anonymous []string
	taken := map[string]bool{}
	add := func(point dockercontainer.MountPoint) error {
		if taken[point.Destination] {
			return fmt.Errorf("Duplicate mount point: %s", point.Destination)
		}
		taken[point.Destination] = true
		points = append(points, point)
		return nil
	}

	for _, volume := range volumes {
		parts, err := splitVolume(volume)
		if err != nil {
			return nil, failure{err, runtime.StatusFailed}
		}
		if len(parts) == 1 {
			anonymous = append(anonymous, parts[0])
			continue
		}
		point, err := parseVolume(parts)
		if err != nil {
			return nil, err
		}
		host.Binds = append(host.Binds, strings.Join(parts, ":"))
		if err := add(point); err != nil {
			return nil, err
		}
	}
	var parsed opts.MountOpt
	for _, value := range mounts {
		err := parsed.Set(value)
		if all := parsed.Value(); err == nil && all[len(all)-1].Target == "" {
			err = errors.New("target is required")
		}
		if err != nil {
			err = fmt.Errorf("invalid argument %q for \"--mount\" flag: %w", value, err)
			return nil, failure{err, runtime.StatusFailed}
		}
	}
	for _, m := range parsed.Value() {
		point, err := mountPoint(m)
		if err != nil {
			return nil, fmt.Errorf("invalid mount config for type %q: %w", m.Type, err)
		}
		host.Mounts = append(host.Mounts, m)
		if err := add(point); err != nil {
			return nil, err
		}
	}
	for _, value := range tmpfs {
		destination, options, _ := strings.Cut(value, ":")
		if err := checkTarget(destination); err != nil {
			return nil, err
		}
		if _, err := tmpfsOptions(options); err != nil {
			return nil, err
		}
		if host.Tmpfs == nil {
			host.Tmpfs = map[string]string{}
		}
		destination = path.Clean(destination)
		if taken[destination] {
			return nil, fmt.Errorf("Duplicate mount point: %s", destination)
		}
		taken[destination] = true // it is in host only, as with docker
		host.Tmpfs[destination] = options
	}
	if img != nil {
		for destination := range img.Config.Volumes {
			anonymous = append(anonymous, destination)
		}
	}
	slices.Sort(anonymous)
	for _, destination := range anonymous {
		destination = path.Join("/", destination)
		if destination == "/" {
			return nil, errRootTarget
		}
		if !taken[destination] { // what the user says goes before what the image does
			add(volumePoint(newID(), destination, true, ""))
		}
	}
	return points, nil
}

// splitVolume takes an argument of -v apart, SOURCE:DESTINATION[:MODE] or only a DESTINATION, as
// docker's client does: a source that begins with a dot is relative to the working directory.
func splitVolume(volume string) ([]string, error) {
	if volume == "" {
		return nil, errors.New("invalid empty volume spec")
	}
	parts := strings.Split(volume, ":")
	if slices.Contains(parts, "") {
		return nil, fmt.Errorf("invalid spec: %s: empty section between colons", volume)
	}
	if len(parts) > 3 {
		return nil, fmt.Errorf("invalid spec: %s: too many colons", volume)
	}
	if len(parts) == 1 || !strings.HasPrefix(parts[0], ".") {
		return parts, nil
	}
	source, err := filepath.Abs(parts[0])
	if err != nil {
		return nil, err
	}
	parts[0] = source
	return parts, nil
}

// parseVolume reads the parts of an argument of -v that has a source.
func parseVolume(parts []string) (dockercontainer.MountPoint, error) {
	volume := strings.Join(parts, ":")
	wrong := fmt.Errorf("invalid volume specification: '%s'", volume)
	m := mounttypes.Mount{Type: mounttypes.TypeVolume, Source: parts[0], Target: parts[1]}
	if path.IsAbs(m.Source) {
		m.Type = mounttypes.TypeBind
		m.BindOptions = &mounttypes.BindOptions{CreateMountpoint: true}
	}
	mode := ""
	if len(parts) == 3 {
		mode = parts[2]
	} else if validMode(parts[1]) {
		return dockercontainer.MountPoint{}, wrong // a destination and a mode, but no source
	}
	if !validMode(mode) {
		return dockercontainer.MountPoint{}, fmt.Errorf("invalid mode: %s", mode)
	}
	for option := range strings.SplitSeq(mode, ",") {
		propagation := mounttypes.Propagation(option)
		switch {
		case option == "ro":
			m.ReadOnly = true
		case slices.Contains(mounttypes.Propagations, propagation) && m.Type == mounttypes.TypeBind:
			m.BindOptions.Propagation = propagation
		case slices.Contains(mounttypes.Propagations, propagation):
			return dockercontainer.MountPoint{}, fmt.Errorf("%w: invalid mount config for type %q: %s",
				wrong, m.Type, "field BindOptions must not be specified")
		}
	}
	point, err := mountPoint(m)
	if err != nil && m.Type == mounttypes.TypeVolume && checkVolumeName(m.Source) != nil {
		return point, err
	}
	if err != nil {
		return point, fmt.Errorf("%w: invalid mount config for type %q: %w", wrong, m.Type, err)
	}
	if mode != "" || m.Type == mounttypes.TypeBind {
		point.Mode = mode
	}
	return point, nil
}

// modeKinds are the options of -v, of each kind of which there may be one. z and Z, labels of
// SELinux, and what is for docker on a Mac, do nothing.
var modeKinds = [][]string{
	{"ro", "rw"},
	{"z", "Z"},
	{"private", "rprivate", "slave", "rslave", "shared", "rshared"},
	{"nocopy"},
	{"consistent", "cached", "delegated"},
}

// validMode tells whether mode, "" or options with commas between them, is one that -v has.
func validMode(mode string) bool {
	if mode == "" {
		return true
	}
	var seen [5]bool // as many as modeKinds
	for option := range strings.SplitSeq(mode, ",") {
		kind := slices.IndexFunc(modeKinds, func(options []string) bool { return slices.Contains(options, option) })
		if kind < 0 || seen[kind] {
			return false
		}
		seen[kind] = true
	}
	return true
}

var errRootTarget = errors.New("invalid specification: destination can't be '/'")

// checkTarget checks a place for a mount.
func checkTarget(target string) error {
	if path.Clean(target) == "/" {
		return errRootTarget
	}
	if !path.IsAbs(target) {
		return fmt.Errorf("invalid mount path: '%s' mount path must be absolute", target)
	}
	return nil
}

// mountPoint checks m, and says it as inspect does.
func mountPoint(m mounttypes.Mount) (point dockercontainer.MountPoint, err error) {
	if err := checkTarget(m.Target); err != nil {
		return point, err
	}
	point = dockercontainer.MountPoint{Type: m.Type, Destination: path.Clean(m.Target), RW: !m.ReadOnly}
	switch m.Type {
	case mounttypes.TypeBind:
		return bindPoint(m, point)
	case mounttypes.TypeVolume:
		if m.VolumeOptions != nil && (m.VolumeOptions.DriverConfig != nil || m.VolumeOptions.Subpath != "") {
			return point, errors.New("volumes with drivers or subpaths are not supported")
		}
		if m.Source != "" {
			return volumePoint(m.Source, point.Destination, point.RW, "z"), checkVolumeName(m.Source)
		}
		if m.ReadOnly {
			return point, errors.New("must not set ReadOnly mode when using anonymous volumes")
		}
		return volumePoint(newID(), point.Destination, true, "z"), nil
	case mounttypes.TypeTmpfs:
		if m.Source != "" {
			return point, errors.New("field Source must not be specified")
		}
		return point, nil
	}
	return point, errors.New("mount type unknown")
}

// bindPoint is mountPoint for a directory or a file of the host.
func bindPoint(m mounttypes.Mount, point dockercontainer.MountPoint) (dockercontainer.MountPoint, error) {
	if m.Source == "" {
		return point, errors.New("field Source must not be empty")
	}
	point.Source = path.Clean(m.Source)
	point.Propagation = mounttypes.PropagationRPrivate
	if m.BindOptions != nil && m.BindOptions.Propagation != "" {
		point.Propagation = m.BindOptions.Propagation
	}
	if !slices.Contains(mounttypes.Propagations, point.Propagation) {
		return point, fmt.Errorf("invalid propagation mode: %s", point.Propagation)
	}
	if !path.IsAbs(m.Source) {
		return point, fmt.Errorf("invalid mount path: '%s' mount path must be absolute", m.Source)
	}
	if m.BindOptions != nil && m.BindOptions.CreateMountpoint {
		return point, nil
	}
	if _, err := os.Stat(m.Source); errors.Is(err, os.ErrNotExist) {
		return point, fmt.Errorf("bind source path does not exist: %s", m.Source)
	}
	return point, nil
}

// volumePoint is the mount point of the volume name.
func volumePoint(name, destination string, rw bool, mode string) dockercontainer.MountPoint {
	return dockercontainer.MountPoint{Type: mounttypes.TypeVolume, Name: name, Source: volumeData(name),
		Destination: destination, Driver: "local", Mode: mode, RW: rw}
}

// prepareMounts makes what c.Mounts need (missing host directories, volumes, the image's content in
// new volumes, from the layers of img), and returns them for the spec, in the order in which they
// can be mounted.
func prepareMounts(c *container, img *image) ([]specs.Mount, error) {
	var mounts []specs.Mount
	for destination, options := range c.HostConfig.Tmpfs {
		m, err := tmpfsMount(destination, options)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, m)
	}
	var empty []dockercontainer.MountPoint // volumes that begin with the image's content
	for _, point := range c.Mounts {
		flags := mountFlags(c, point.Destination)
		m := specs.Mount{Type: "bind", Source: point.Source, Destination: point.Destination}
		switch point.Type {
		case mounttypes.TypeTmpfs:
			var err error
			if m, err = tmpfsMount(point.Destination, tmpfsFlags(flags, point.RW)); err != nil {
				return nil, err
			}
		case mounttypes.TypeVolume:
			if err := makeVolume(point.Name, nil, c.isAnonymous(point)); err != nil {
				return nil, err
			}
			nocopy := flags != nil && flags.VolumeOptions != nil && flags.VolumeOptions.NoCopy
			if c.Started.IsZero() && !nocopy && !slices.Contains(strings.Split(point.Mode, ","), "nocopy") {
				empty = append(empty, point)
			}
			m.Options = bindOptions(point, nil)
		case mounttypes.TypeBind:
			if err := prepareBind(point, flags); err != nil {
				return nil, err
			}
			m.Options = bindOptions(point, flags)
		}
		mounts = append(mounts, m)
	}
	if err := fillVolumes(c, empty, img); err != nil {
		return nil, err
	}
	slices.SortStableFunc(mounts, func(a, b specs.Mount) int { // /a/b lies over /a
		return cmp.Compare(strings.Count(a.Destination, "/"), strings.Count(b.Destination, "/"))
	})
	return mounts, nil
}

// mountFlags returns what --mount has said of destination, or nil if another flag has.
func mountFlags(c *container, destination string) *mounttypes.Mount {
	for _, m := range c.HostConfig.Mounts {
		if path.Clean(m.Target) == destination {
			return &m
		}
	}
	return nil
}

// tmpfsFlags says what --mount does of a tmpfs as --tmpfs would.
func tmpfsFlags(flags *mounttypes.Mount, rw bool) string {
	options := []string{"rw"}
	if !rw {
		options = []string{"ro"}
	}
	if flags == nil || flags.TmpfsOptions == nil {
		return options[0]
	}
	if size := flags.TmpfsOptions.SizeBytes; size > 0 {
		options = append(options, fmt.Sprintf("size=%d", size))
	}
	if mode := flags.TmpfsOptions.Mode; mode > 0 {
		options = append(options, fmt.Sprintf("mode=%o", mode))
	}
	return strings.Join(options, ",")
}

// tmpfsMount is a tmpfs for the spec.
func tmpfsMount(destination, options string) (specs.Mount, error) {
	all, err := tmpfsOptions(options)
	return specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: destination, Options: all}, err
}

// tmpfsOptions returns the mount options for a tmpfs for which the user wants options, with commas
// between them: docker's, and then the user's.
func tmpfsOptions(options string) ([]string, error) {
	merged := []string{"noexec", "nosuid", "nodev"}
	if options == "" {
		return merged, nil
	}
	flags := []string{"ro", "rw", "exec", "suid", "dev", "noexec", "nosuid", "nodev", "sync", "async", "atime",
		"noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime"}
	values := []string{"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"}
	for option := range strings.SplitSeq(options, ",") {
		key, _, hasValue := strings.Cut(option, "=")
		if (hasValue && !slices.Contains(values, key)) || (!hasValue && !slices.Contains(flags, key)) {
			return nil, fmt.Errorf("invalid tmpfs option [%q]", option)
		}
		merged = append(merged, option) // the last one counts
	}
	return merged, nil
}

// bindOptions are the mount options for a directory or a file of the host. Read-only is so all the
// way down, unless the user has said otherwise.
func bindOptions(point dockercontainer.MountPoint, flags *mounttypes.Mount) []string {
	propagation := string(point.Propagation)
	if propagation == "" {
		propagation = "rprivate"
	}
	kind, readOnly := "rbind", "rro"
	if flags != nil && flags.BindOptions != nil && flags.BindOptions.NonRecursive {
		kind = "bind"
	}
	if flags != nil && flags.BindOptions != nil && flags.BindOptions.ReadOnlyNonRecursive {
		readOnly = "ro"
	}
	if point.RW {
		return []string{kind, propagation}
	}
	return []string{kind, propagation, readOnly}
}

// prepareBind makes the directory that is to be bound, if it is missing and -v has named it; and
// refuses to let mounts through where the host keeps them to itself.
func prepareBind(point dockercontainer.MountPoint, flags *mounttypes.Mount) error {
	create := flags == nil || flags.BindOptions != nil && flags.BindOptions.CreateMountpoint
	_, err := os.Stat(point.Source)
	if errors.Is(err, os.ErrNotExist) && create {
		err = os.MkdirAll(point.Source, 0o755)
	}
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("bind source path does not exist: %s", point.Source)
	}
	if err != nil {
		return fmt.Errorf("error while creating mount source path '%s': %w", point.Source, err)
	}
	shared := strings.HasSuffix(string(point.Propagation), "shared")
	slave := strings.HasSuffix(string(point.Propagation), "slave")
	if !shared && !slave {
		return nil
	}
	source, err := filepath.EvalSymlinks(point.Source)
	if err != nil {
		return err
	}
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(source))
	if err != nil || len(mounts) == 0 {
		return fmt.Errorf("find the mount of %s: %w", source, cmp.Or(err, error(unix.ENOENT)))
	}
	longest := slices.MaxFunc(mounts, func(a, b *mountinfo.Info) int {
		return cmp.Compare(len(a.Mountpoint), len(b.Mountpoint))
	})
	isShared := strings.Contains(longest.Optional, "shared:")
	isSlave := strings.Contains(longest.Optional, "master:")
	if shared && !isShared {
		return fmt.Errorf("path %s is mounted on %s but it is not a shared mount", source, longest.Mountpoint)
	}
	if slave && !isShared && !isSlave {
		return fmt.Errorf("path %s is mounted on %s but it is not a shared or slave mount", source, longest.Mountpoint)
	}
	return nil
}
