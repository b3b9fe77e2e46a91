package runtime

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/containerd/continuity/fs"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// MountInRoot mounts m as mountInRoot does, for an engine that wants to see what a container would.
func MountInRoot(root int, m specs.Mount) error { return mountInRoot(root, m) }

// mountInRoot mounts m (OCI runtime spec, config.md, Mounts) on m.Destination in the directory
// root, a descriptor (O_PATH will do). To the links on the way there root is "/", whatever they say
// and whoever changes them meanwhile; links of proc(5) that lead anywhere are refused. A mount
// point that is missing is made: a file for a file, else a directory.
//
// What is mounted is made first, out of everybody's sight, has its flags set there, and then takes
// its place (open_tree(2), fsopen(2), move_mount(2): Linux 5.2): nobody meets a mount that is to be
// read-only while it is not. Only before Linux 5.12, which has no mount_setattr(2), a bind is seen
// first.
func mountInRoot(root int, m specs.Mount) error {
	return mountTree(root, m, -1)
}

// cloneShared returns copies of the mounts that are to be shared with the host, by their
// destinations, for mountTree. They have to be made before the other mounts here become slaves of
// the host's: what is mounted in a copy of those, the host would not see. mount_namespaces(7).
func cloneShared(mounts []specs.Mount) (trees map[string]int, err error) {
	trees = map[string]int{}
	for _, m := range mounts {
		options, err := parseMountOptions(m)
		if err != nil {
			return nil, err
		}
		for _, propagation := range options.propagation {
			if options.bind && propagation&unix.MS_SHARED != 0 {
				trees[m.Destination], err = cloneTree(m.Source, options.recursive)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("mount %s on %s: %w", m.Source, m.Destination, err)
		}
	}
	return trees, nil
}

// mountTree is mountInRoot for a bind mount whose copy, tree, there is already. It closes tree. For
// -1 it makes what is to be mounted itself.
func mountTree(root int, m specs.Mount, tree int) error {
	options, err := parseMountOptions(m)
	if err == nil && options.bind && tree < 0 {
		tree, err = cloneTree(m.Source, options.recursive)
	}
	if err == nil {
		err = attach(root, m, options, tree)
	}
	if err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.Source, m.Destination, err)
	}
	return nil
}

// attach puts tree, or if it is -1 a new file system, in its place. It closes tree.
func attach(root int, m specs.Mount, options mountOptions, tree int) error {
	defer func() { unix.Close(tree) }()
	if inProc(m) {
		return errInProc
	}
	isDir := true
	if options.bind {
		var stat unix.Stat_t
		if err := unix.Fstat(tree, &stat); err != nil {
			return fmt.Errorf("fstat: %w", err)
		}
		isDir = stat.Mode&unix.S_IFMT == unix.S_IFDIR
	}
	resolve := uint64(inRoot)
	if m.Type == "proc" || m.Type == "sysfs" {
		resolve |= unix.RESOLVE_NO_SYMLINKS // an image could have them where others write: CVE-2019-19921
	}
	target, existed, err := openTarget(root, m.Destination, isDir, resolve)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if err := checkTarget(root, target, isDir, m); err != nil {
		return err
	}
	if !options.bind {
		if m.Type == "tmpfs" && existed {
			options.data = withMode(options.data, target)
		}
		tree, err = newTree(m, options)
		if err != nil {
			return err
		}
	}
	if options.copyUp && existed {
		if err := fs.CopyDir(fdPath(tree), fdPath(target)); err != nil {
			return err
		}
	}

	// Flags before the place; after it where the kernel is too old.
	old := false
	for _, attr := range options.attributes() {
		err := setMountAttr(tree, attr.flags, &attr.MountAttr)
		if err == unix.ENOSYS {
			old = true
			break
		}
		if err != nil {
			return fmt.Errorf("mount_setattr: %w", err)
		}
	}
	err = unix.MoveMount(tree, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	if old && options.bind { // fsmount(2) has set those of a new file system
		for _, attr := range options.attributes() {
			if err := remount(tree, attr.MountAttr, attr.flags == unix.AT_RECURSIVE); err != nil {
				return err
			}
		}
	}
	for _, propagation := range options.propagation {
		if err := unix.Mount("", fdPath(tree), "", propagation, ""); err != nil {
			return fmt.Errorf("propagation: %w", err)
		}
	}
	return nil
}

// fdPath is a name for what the descriptor fd stands for, as exactly as fd itself: proc(5).
func fdPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// cloneTree returns a detached copy of the mount that source is in, from source downwards,
// recursive with all that is mounted below it.
func cloneTree(source string, recursive bool) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, flags)
	if err != nil {
		return -1, fmt.Errorf("open_tree: %w", err)
	}
	return tree, nil
}

// newTree returns a new file system, mounted nowhere. A value in options.data has at most 255
// bytes: fsconfig(2).
func newTree(m specs.Mount, options mountOptions) (int, error) {
	config, err := unix.Fsopen(m.Type, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen %s: %w", m.Type, err)
	}
	defer unix.Close(config)
	if m.Source != "" {
		if err := unix.FsconfigSetString(config, "source", m.Source); err != nil {
			return -1, fmt.Errorf("fsconfig source: %w", err)
		}
	}
	for _, option := range options.data {
		if key, value, ok := strings.Cut(option, "="); ok {
			err = unix.FsconfigSetString(config, key, value)
		} else {
			err = unix.FsconfigSetFlag(config, key)
		}
		if err != nil {
			return -1, fmt.Errorf("option %s: %w%s", option, err, complaints(config))
		}
	}
	if err := unix.FsconfigCreate(config); err != nil {
		return -1, fmt.Errorf("%w%s", err, complaints(config))
	}
	// All of the attributes, where only fsmount(2) can set them (before Linux 5.12).
	attributes := options.top.Attr_set | options.all.Attr_set
	tree, err := unix.Fsmount(config, unix.FSMOUNT_CLOEXEC, int(attributes))
	if err != nil {
		return -1, fmt.Errorf("fsmount: %w", err)
	}
	return tree, nil
}

// complaints returns what the kernel has to say about what went wrong with a file system that was
// to be made: fsopen(2).
func complaints(config int) (text string) {
	for {
		line := make([]byte, 1024)
		n, err := unix.Read(config, line)
		if err != nil || n < 2 {
			return text
		}
		text += ": " + strings.TrimSpace(string(line[2:n])) // after "e ", "w " or "i "
	}
}

// withMode adds to the options of a tmpfs the mode of the directory that it will cover, if they
// have none, as runc does.
func withMode(data []string, target int) []string {
	var stat unix.Stat_t
	for _, option := range data {
		if strings.HasPrefix(option, "mode=") {
			return data
		}
	}
	if err := unix.Fstat(target, &stat); err != nil {
		return data
	}
	return append(data, fmt.Sprintf("mode=%o", stat.Mode&0o7777))
}

// inRoot is how paths of a container are resolved: openat2(2), Linux 5.6.
const inRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// openInRoot opens name in the directory root. resolve has at least inRoot.
func openInRoot(root int, name string, flags int, resolve uint64) (int, error) {
	how := &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: resolve}
	for {
		fd, err := unix.Openat2(root, name, how)
		if err != unix.EAGAIN && err != unix.EINTR { // EAGAIN: something was renamed beside a ".."
			return fd, err
		}
	}
}

// openTarget opens the mount point name in root, and makes it if it is not there. existed tells
// whether it was.
func openTarget(root int, name string, isDir bool, resolve uint64) (fd int, existed bool, err error) {
	existed = true
	for range 100 { // somebody may remove what was just made
		fd, err = openInRoot(root, name, unix.O_PATH, resolve)
		if err != unix.ENOENT {
			break
		}
		existed = false
		if err := makeTarget(root, name, isDir); err != nil {
			return -1, false, fmt.Errorf("make the mount point: %w", err)
		}
	}
	if err != nil {
		return -1, false, fmt.Errorf("open the mount point: %w", err)
	}
	return fd, existed, nil
}

// makeTarget makes what is missing of name in root. It goes step by step, each from the descriptor
// of the directory before, and reads links itself, as what they lead to may be missing, too.
func makeTarget(root int, name string, isDir bool) error {
	at := "/" // where we are: no links in it, unless they have come since
	rest := strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		step := rest[0]
		rest = rest[1:]
		if step == "" || step == "." {
			continue
		}
		if step == ".." {
			at = path.Dir(at)
			continue
		}
		dir, err := openInRoot(root, at, unix.O_PATH|unix.O_DIRECTORY, inRoot)
		if err != nil {
			return fmt.Errorf("open %s: %w", at, err)
		}
		link, err := takeStep(dir, step, isDir || strings.Trim(path.Join(rest...), "/.") != "")
		unix.Close(dir)
		if err != nil {
			return fmt.Errorf("%s: %w", path.Join(at, step), err)
		}
		if link == "" {
			at = path.Join(at, step)
			continue
		}
		links++
		if links > 40 { // the kernel's limit: path_resolution(7)
			return unix.ELOOP
		}
		if path.IsAbs(link) {
			at = "/"
		}
		rest = append(strings.Split(link, "/"), rest...)
	}
	return nil
}

// takeStep makes the directory, or the empty file, name in the directory dir unless there is one.
// If it is a symbolic link, takeStep returns what that says.
func takeStep(dir int, name string, isDir bool) (link string, err error) {
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, target)
	if err == nil {
		return string(target[:n]), nil
	}
	if err != unix.ENOENT { // EINVAL: it is there, and no link
		return "", nil
	}
	if isDir {
		err = unix.Mkdirat(dir, name, 0o755)
	} else {
		var fd int
		fd, err = unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
		if err == nil {
			unix.Close(fd)
		}
	}
	if err == unix.EEXIST {
		return "", nil
	}
	return "", err
}

// procFiles may be covered all the same: lxcfs has better ones for a container.
var procFiles = []string{"cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime"}

// errInProc is why checkTarget refuses a mount point.
var errInProc = errors.New("it cannot be mounted because it is inside /proc")

// inProc tells whether m is to be in /proc, by its name, where only a proc(5) and procFiles may be.
func inProc(m specs.Mount) bool {
	name, ok := strings.CutPrefix(path.Clean(m.Destination), "/proc/")
	return ok && m.Type != "proc" && !slices.Contains(procFiles, name)
}

// checkTarget refuses to mount a directory on a file, or a file on a directory; and anything but a
// proc(5) on /proc, or in it, where links of an image may lead. What a process writes to
// /proc/self/attr/exec, say, has to arrive there: CVE-2019-16884.
func checkTarget(root, target int, isDir bool, m specs.Mount) error {
	var found unix.Stat_t
	if err := unix.Fstat(target, &found); err != nil {
		return fmt.Errorf("fstat: %w", err)
	}
	if isDir != (found.Mode&unix.S_IFMT == unix.S_IFDIR) {
		return fmt.Errorf("%w: Are you trying to mount a directory onto a file (or vice-versa)? "+
			"Check if the specified host path exists and is the expected type", unix.ENOTDIR)
	}
	if m.Type == "proc" || strings.HasPrefix(path.Clean(m.Destination), "/proc/") { // see inProc
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(target, &fs); err != nil {
		return fmt.Errorf("fstatfs: %w", err)
	}
	if fs.Type == unix.PROC_SUPER_MAGIC {
		return errInProc
	}
	proc, err := openInRoot(root, "/proc", unix.O_PATH, inRoot)
	if err != nil {
		return nil // there is none
	}
	defer unix.Close(proc)
	var wanted unix.Stat_t
	if err := unix.Fstat(proc, &wanted); err != nil {
		return fmt.Errorf("fstat: %w", err)
	}
	if found.Dev == wanted.Dev && found.Ino == wanted.Ino {
		return errors.New("it cannot be mounted because it is not of type proc")
	}
	return nil
}

// mountOptions are m.Options, taken apart.
type mountOptions struct {
	bind, recursive bool
	copyUp          bool           // tmpcopyup: a tmpfs begins with what it covers
	all             unix.MountAttr // for the mount and all that are below it
	top             unix.MountAttr // for the mount alone
	propagation     []uintptr      // mount(2) flags
	data            []string       // for the file system
}

type mountAttr struct {
	unix.MountAttr
	flags uint // AT_RECURSIVE or 0
}

// attributes are what there is to set, in this order.
func (o mountOptions) attributes() (attrs []mountAttr) {
	if o.all != (unix.MountAttr{}) {
		attrs = append(attrs, mountAttr{o.all, unix.AT_RECURSIVE})
	}
	if o.top != (unix.MountAttr{}) {
		attrs = append(attrs, mountAttr{o.top, 0})
	}
	return attrs
}

// attrOptions are the options that mount_setattr(2) knows: what they set, and what they clear. With
// an r before it, such an option is for all mounts below, too.
var attrOptions = map[string]struct{ set, clear uint64 }{
	"ro":            {unix.MOUNT_ATTR_RDONLY, 0},
	"rw":            {0, unix.MOUNT_ATTR_RDONLY},
	"nosuid":        {unix.MOUNT_ATTR_NOSUID, 0},
	"suid":          {0, unix.MOUNT_ATTR_NOSUID},
	"nodev":         {unix.MOUNT_ATTR_NODEV, 0},
	"dev":           {0, unix.MOUNT_ATTR_NODEV},
	"noexec":        {unix.MOUNT_ATTR_NOEXEC, 0},
	"exec":          {0, unix.MOUNT_ATTR_NOEXEC},
	"nodiratime":    {unix.MOUNT_ATTR_NODIRATIME, 0},
	"diratime":      {0, unix.MOUNT_ATTR_NODIRATIME},
	"nosymfollow":   {unix.MOUNT_ATTR_NOSYMFOLLOW, 0},
	"symfollow":     {0, unix.MOUNT_ATTR_NOSYMFOLLOW},
	"noatime":       {unix.MOUNT_ATTR_NOATIME, unix.MOUNT_ATTR__ATIME},
	"strictatime":   {unix.MOUNT_ATTR_STRICTATIME, unix.MOUNT_ATTR__ATIME},
	"relatime":      {unix.MOUNT_ATTR_RELATIME, unix.MOUNT_ATTR__ATIME},
	"atime":         {unix.MOUNT_ATTR_RELATIME, unix.MOUNT_ATTR__ATIME}, // the kernel's default
	"norelatime":    {unix.MOUNT_ATTR_RELATIME, unix.MOUNT_ATTR__ATIME},
	"nostrictatime": {unix.MOUNT_ATTR_RELATIME, unix.MOUNT_ATTR__ATIME},
}

// propagations are in mount_namespaces(7).
var propagations = map[string]uintptr{
	"shared":     unix.MS_SHARED,
	"slave":      unix.MS_SLAVE,
	"private":    unix.MS_PRIVATE,
	"unbindable": unix.MS_UNBINDABLE,
}

// parseMountOptions takes m.Options apart: OCI runtime spec, config.md, Linux mount options.
func parseMountOptions(m specs.Mount) (mountOptions, error) {
	o := mountOptions{bind: m.Type == "bind"}
	for _, option := range m.Options {
		plain, recursive := strings.CutPrefix(option, "r")
		if _, ok := attrOptions[option]; ok { // ro, rw, relatime
			recursive = false
		}
		if !recursive {
			plain = option
		}
		switch option {
		case "bind":
			o.bind = true
			continue
		case "rbind":
			o.bind, o.recursive = true, true
			continue
		case "tmpcopyup":
			o.copyUp = true
			continue
		case "defaults", "silent", "loud", "iversion", "noiversion":
			continue // nothing that fsconfig(2) could set
		}
		if attr, ok := attrOptions[plain]; ok {
			into := &o.top
			if recursive {
				into = &o.all
			}
			into.Attr_set = into.Attr_set&^attr.clear | attr.set
			if attr.clear == unix.MOUNT_ATTR__ATIME {
				into.Attr_clr |= attr.clear // one of three, to be cleared whichever is set
			} else {
				into.Attr_clr = into.Attr_clr&^attr.set | attr.clear
			}
			continue
		}
		if flag, ok := propagations[plain]; ok {
			if recursive {
				flag |= unix.MS_REC
			}
			o.propagation = append(o.propagation, flag)
			continue
		}
		o.data = append(o.data, option)
	}
	if o.copyUp && m.Type != "tmpfs" {
		return o, errors.New("tmpcopyup is for a tmpfs")
	}
	if o.bind && len(o.data) > 0 {
		return o, fmt.Errorf("a bind mount has no option %s", o.data[0])
	}
	return o, nil
}

// setMountAttr is mount_setattr(2) for the mount that tree is. Linux 5.12; before, ENOSYS.
var setMountAttr = func(tree int, flags uint, attr *unix.MountAttr) error {
	return unix.MountSetattr(tree, "", flags|unix.AT_EMPTY_PATH, attr)
}

// remount does for the mount that tree is, and recursive for those below it, what mount_setattr(2)
// would, with mount(2), which takes one mount at a time.
func remount(tree int, attr unix.MountAttr, recursive bool) error {
	if err := remountOne(tree, attr); err != nil {
		return fmt.Errorf("remount: %w", err)
	}
	if !recursive {
		return nil
	}
	top, err := mountID(tree)
	if err != nil {
		return err
	}
	mounts, err := mountinfo.GetMounts(nil) // a parent is before its children
	if err != nil {
		return err
	}
	below := map[int]bool{top: true}
	for _, mount := range mounts {
		if !below[mount.Parent] {
			continue
		}
		below[mount.ID] = true
		if err := remountBelow(mount, attr); err != nil {
			return fmt.Errorf("remount %s: %w", mount.Mountpoint, err)
		}
	}
	return nil
}

// remountBelow is remountOne for a mount of which there is only the path, which could lead to
// another one by now.
func remountBelow(mount *mountinfo.Info, attr unix.MountAttr) error {
	fd, err := unix.Open(mount.Mountpoint, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	id, err := mountID(fd)
	if err != nil {
		return err
	}
	if id != mount.ID {
		return errors.New("there is another mount over it")
	}
	return remountOne(fd, attr)
}

// remountOne changes the flags of the mount whose root fd is.
func remountOne(fd int, attr unix.MountAttr) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return err
	}
	// The first four are the same bits in statfs(2), mount_setattr(2) and mount(2).
	const same = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	flags := uint64(fs.Flags) & same
	flags = flags&^attr.Attr_clr | attr.Attr_set&same
	for _, other := range []struct {
		attr uint64
		st   int64 // the same for statfs(2), or 0 if it need not be kept
		ms   uint64
	}{
		{unix.MOUNT_ATTR_NOATIME, unix.ST_NOATIME, unix.MS_NOATIME},
		{unix.MOUNT_ATTR_NODIRATIME, unix.ST_NODIRATIME, unix.MS_NODIRATIME},
		{unix.MOUNT_ATTR_STRICTATIME, 0, unix.MS_STRICTATIME},
		{unix.MOUNT_ATTR_NOSYMFOLLOW, 0x2000, unix.MS_NOSYMFOLLOW},
	} {
		kept := int64(fs.Flags)&other.st != 0 && attr.Attr_clr&other.attr == 0
		if kept || attr.Attr_set&other.attr != 0 {
			flags |= other.ms
		}
	}
	return unix.Mount("", fdPath(fd), "", uintptr(unix.MS_REMOUNT|unix.MS_BIND|flags), "")
}

// mountID is the number that mountinfo has of the mount that fd is in: proc_pid_fdinfo(5).
func mountID(fd int) (int, error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return 0, err
	}
	_, text, _ := strings.Cut(string(info), "mnt_id:")
	id := 0
	if _, err := fmt.Sscan(text, &id); err != nil {
		return 0, fmt.Errorf("no mnt_id in fdinfo: %w", err)
	}
	return id, nil
}
