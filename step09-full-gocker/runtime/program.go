package runtime

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// sealedProgram opens this program's file in a way in which nobody can write to it. Whoever enters a
// container executes it there, and the container's processes see it as /proc/PID/exe: root among them
// could otherwise overwrite the host's gocker (CVE-2019-5736).
//
// The file belongs to a mount of its own, which is read-only and nowhere in the tree: open_tree(2),
// mount_setattr(2), Linux 5.12. Before that it is a copy in memory that is sealed: memfd_create(2).
func sealedProgram() (*os.File, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, "/proc/self/exe", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return sealedCopy()
	}
	readOnly := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &readOnly); err != nil {
		unix.Close(tree)
		return sealedCopy()
	}
	return os.NewFile(uintptr(tree), "/proc/self/exe"), nil
}

// sealedCopy is sealedProgram before Linux 5.12.
func sealedCopy() (*os.File, error) {
	program, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	defer program.Close()
	fd, err := unix.MemfdCreate("gocker", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	file := os.NewFile(uintptr(fd), "gocker")
	if _, err := io.Copy(file, program); err != nil {
		file.Close()
		return nil, err
	}
	seals := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		file.Close()
		return nil, fmt.Errorf("fcntl: %w", err)
	}
	return file, nil
}
