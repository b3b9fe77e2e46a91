package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	continuity "github.com/containerd/continuity/fs"
	"github.com/docker/go-units"
	"github.com/moby/go-archive"
	"github.com/moby/go-archive/compression"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// cpFlags are what cp's flags say.
type cpFlags struct {
	archive, followLink, quiet bool
}

// cpCommand is "gocker cp". What goes where, and is called what there, docker's own package decides
// (moby/go-archive). It knows only the host's side of it: the container's side is a tar stream,
// which writeTree and readTree write and read.
func cpCommand() *cobra.Command {
	var flags cpFlags
	cmd := &cobra.Command{
		Use: "cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n" +
			"  gocker cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
		Short: "Copy files/folders between a container and the local filesystem",
		Long: "Copy files/folders between a container and the local filesystem.\n" +
			"\"-\" instead of a local path is a tar archive, from stdin or to stdout.",
		Args:                  cobra.ExactArgs(2),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().BoolVarP(&flags.archive, "archive", "a", false, "Archive mode (copy all uid/gid information)")
	cmd.Flags().BoolVarP(&flags.followLink, "follow-link", "L", false, "Always follow symlinks in SRC_PATH")
	cmd.Flags().BoolVarP(&flags.quiet, "quiet", "q", false, "Do not say how much was copied, as without a terminal")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if args[0] == "" {
			return errors.New("source can not be empty")
		}
		if args[1] == "" {
			return errors.New("destination can not be empty")
		}
		flags.quiet = flags.quiet || !term.IsTerminal(1)
		from, source := splitCpArg(args[0])
		to, destination := splitCpArg(args[1])
		switch {
		case from != "" && to != "":
			return errors.New("copying between containers is not supported")
		case from != "":
			return copyFrom(from, source, destination, flags)
		case to != "":
			return copyTo(source, to, destination, flags)
		}
		return errors.New("must specify at least one container source")
	}
	return cmd
}

// splitCpArg takes CONTAINER:PATH apart. A path of the host that has a colon begins with / or a
// dot.
func splitCpArg(arg string) (container, path string) {
	container, path, ok := strings.Cut(arg, ":")
	if !ok || strings.HasPrefix(arg, "/") || strings.HasPrefix(container, ".") {
		return "", arg
	}
	return container, path
}

// absolute returns a path of the host as an absolute one, and keeps a / or /. at its end, which
// matter.
func absolute(name string) (string, error) {
	abs, err := filepath.Abs(name)
	return archive.PreserveTrailingDotOrSeparator(abs, name), err
}

// copyFrom copies source of the container called name to destination on the host.
func copyFrom(name, source, destination string, flags cpFlags) error {
	c, err := findContainer(name)
	if err != nil {
		return err
	}
	if source == "" {
		return errors.New("bad parameter: path cannot be empty")
	}
	if destination != "-" {
		if destination, err = absolute(destination); err != nil {
			return err
		}
		if err := checkOutput(destination); err != nil {
			return err
		}
	}
	return c.withRoot(func(root int) error {
		from := archive.CopyInfo{Path: archive.PreserveTrailingDotOrSeparator(path.Join("/", source), source), Exists: true}
		asked := source
		stat, err := lstatInRoot(root, from.Path)
		if err == nil && flags.followLink && isType(stat, unix.S_IFLNK) {
			var target string
			if target, err = resolveInRoot(root, from.Path); err != nil {
				return err
			}
			from.Path, from.RebaseName = archive.GetRebaseName(from.Path, target)
			asked = from.Path
			stat, err = lstatInRoot(root, from.Path)
		}
		if err == unix.ENOENT {
			return notInContainer(name, asked)
		}
		if err != nil {
			return fmt.Errorf("lstat %s: %w", from.Path, err)
		}
		from.IsDir = isType(stat, unix.S_IFDIR)

		if destination == "-" {
			return notThere(writeTree(root, from.Path, from.IsDir, os.Stdout), name, asked)
		}
		content, stream := io.Pipe()
		written := make(chan error)
		go func() {
			err := writeTree(root, from.Path, from.IsDir, stream)
			stream.CloseWithError(err)
			written <- err
		}()
		counted := &counter{Reader: content}
		err = unpackOnHost(counted, from, destination, flags)
		content.Close() // whatever is left of it
		<-written       // then nobody needs root any more
		err = notThere(err, name, asked)
		if err == nil && !flags.quiet {
			fmt.Fprintf(os.Stderr, "Successfully copied %s to %s\n", units.HumanSizeWithPrecision(float64(counted.n), 3), destination)
		}
		return err
	})
}

// unpackOnHost puts content, a tar archive that is made of from, where the user wants it. The files
// are the user's, unless he wants their owners in the container to be theirs here.
func unpackOnHost(content io.Reader, from archive.CopyInfo, destination string, flags cpFlags) error {
	if from.RebaseName != "" { // a link was followed, and the name is the link's
		_, base := archive.SplitPathDirEntry(from.Path)
		content = archive.RebaseArchiveEntries(content, base, from.RebaseName)
	}
	to, err := archive.CopyInfoDestinationPath(destination)
	if err != nil {
		return err
	}
	dir, prepared, err := archive.PrepareArchiveCopy(content, from, to)
	if err != nil {
		return err
	}
	defer prepared.Close()
	return archive.UntarUncompressed(prepared, dir, &archive.TarOptions{NoLchown: !flags.archive, NoOverwriteDirNonDir: true})
}

// copyTo copies source on the host into the container called name.
func copyTo(source, name, destination string, flags cpFlags) error {
	c, err := findContainer(name)
	if err != nil {
		return err
	}
	if source != "-" {
		if source, err = absolute(source); err != nil {
			return err
		}
	}
	return c.withRoot(func(root int) error {
		to := archive.CopyInfo{Path: destination}
		stat, err := lstatInRoot(root, archive.PreserveTrailingDotOrSeparator(path.Join("/", destination), destination))
		if err == nil && isType(stat, unix.S_IFLNK) {
			if to.Path, err = resolveInRoot(root, destination); err != nil {
				return err
			}
			stat, err = lstatInRoot(root, to.Path)
		}
		if err == nil {
			if isType(stat, unix.S_IFCHR) || isType(stat, unix.S_IFBLK) {
				return fmt.Errorf(`destination "%s:%s" must be a directory or a regular file: got a device`, name, destination)
			}
			to.Exists, to.IsDir = true, isType(stat, unix.S_IFDIR)
		}
		dir, content, err := packOnHost(source, to, flags)
		if errors.Is(err, errNoDir) {
			return fmt.Errorf(`destination "%s:%s" must be a directory`, name, destination)
		}
		if err != nil {
			return err
		}
		defer content.Close()
		if err := c.checkWritable(root, dir); err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return notInContainer(name, dir)
			}
			return err
		}
		counted := &counter{Reader: content}
		if err := readTree(root, dir, counted); err != nil {
			return err
		}
		if !flags.quiet {
			fmt.Fprintf(os.Stderr, "Successfully copied %s to %s:%s\n", units.HumanSizeWithPrecision(float64(counted.n), 3), name, to.Path)
		}
		return nil
	})
}

var errNoDir = errors.New("not a directory")

// packOnHost returns a tar archive of source, and the directory of the container where to unpack
// it, so that it becomes to.
func packOnHost(source string, to archive.CopyInfo, flags cpFlags) (dir string, content io.ReadCloser, err error) {
	if source == "-" {
		if !to.IsDir {
			return "", nil, errNoDir
		}
		content, err := compression.DecompressStream(os.Stdin)
		return to.Path, content, err
	}
	from, err := archive.CopyInfoSourcePath(source, flags.followLink)
	if err != nil {
		return "", nil, err
	}
	packed, err := archive.TarResource(from)
	if err != nil {
		return "", nil, err
	}
	dir, content, err = archive.PrepareArchiveCopy(packed, from, to)
	if err != nil {
		packed.Close()
	}
	return dir, content, err
}

// checkOutput checks a place on the host where something is to be made.
func checkOutput(name string) error {
	dir := filepath.Dir(filepath.Clean(name))
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("invalid output path: directory %q does not exist", dir)
	}
	if info, err := os.Stat(name); err == nil && info.Mode()&fs.ModeDevice != 0 {
		return fmt.Errorf("invalid output path: %q must be a directory or a regular file: got a device", name)
	}
	return nil
}

// checkWritable tells whether the container's directory dir may be written to, in docker's words.
func (c *container) checkWritable(root int, dir string) error {
	resolved, err := resolveInRoot(root, dir)
	if err != nil {
		return err
	}
	if _, err := lstatInRoot(root, resolved); err != nil {
		return err
	}
	for place := resolved; place != "/"; place = path.Dir(place) {
		for _, point := range c.Mounts {
			if point.Destination == place && !point.RW {
				return errors.New("mounted volume is marked read-only")
			}
			if point.Destination == place {
				return nil
			}
		}
	}
	if c.HostConfig.ReadonlyRootfs {
		return errors.New("container rootfs is marked read-only")
	}
	return nil
}

// notThere is notInContainer if err says that something is missing in the container, else err.
func notThere(err error, container, name string) error {
	if errors.Is(err, errVanished) {
		return notInContainer(container, name)
	}
	return err
}

func notInContainer(container, name string) error {
	return fmt.Errorf("Could not find the file %s in container %s", name, container)
}

// lstatInRoot is lstat(2) for a path in the directory root.
func lstatInRoot(root int, name string) (stat unix.Stat_t, err error) {
	fd, err := openInRoot(root, name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return stat, err
	}
	defer unix.Close(fd)
	return stat, unix.Fstat(fd, &stat)
}

func isType(stat unix.Stat_t, kind uint32) bool { return stat.Mode&unix.S_IFMT == kind }

// resolveInRoot returns name, a path in the directory root, without the links in it. What it leads
// to need not be there. It is a name that may mean something else by now: openInRoot decides.
func resolveInRoot(root int, name string) (string, error) {
	resolved, err := continuity.RootPath(fdPath(root), name)
	if err != nil {
		return "", err
	}
	return path.Join("/", strings.TrimPrefix(resolved, fdPath(root))), nil
}

// counter counts the bytes that are read.
type counter struct {
	io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}
