package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/continuity/fs"
	"github.com/fvbommel/sortorder"
	dockercontainer "github.com/moby/moby/api/types/container"
	mounttypes "github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/volume"
	"golang.org/x/sys/unix"
)

// volumesDir has a directory for every volume, by its name: _data is what containers see of it, and
// volume.json what docker would say of it.
const volumesDir = storeDir + "/volumes"

// anonymousLabel is on a volume that nobody has named: it goes with its container.
const anonymousLabel = "com.docker.volume.anonymous"

func volumeData(name string) string { return filepath.Join(volumesDir, name, "_data") }

var validVolumeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// checkVolumeName refuses a name that docker does not have for volumes, in its words.
func checkVolumeName(name string) error {
	if len(name) == 1 {
		return fmt.Errorf("create %s: volume name is too short, names should be at least two alphanumeric characters", name)
	}
	if !validVolumeName.MatchString(name) {
		return fmt.Errorf("create %s: %q includes invalid characters for a local volume name, only "+
			"%q are allowed. If you intended to pass a host directory, use absolute path", name, name, "[a-zA-Z0-9][a-zA-Z0-9_.-]")
	}
	return nil
}

// isAnonymous tells whether the volume of point was made for c, without a name. Its name is one
// that newID makes, and no flag has it.
func (c *container) isAnonymous(point dockercontainer.MountPoint) bool {
	if point.Type != mounttypes.TypeVolume || len(point.Name) != 64 {
		return false
	}
	for _, bind := range c.HostConfig.Binds {
		if strings.HasPrefix(bind, point.Name+":") {
			return false
		}
	}
	flags := mountFlags(c, point.Destination)
	return flags == nil || flags.Source == ""
}

// makeVolume makes the volume name, unless it is there.
func makeVolume(name string, labels map[string]string, anonymous bool) error {
	if err := os.MkdirAll(volumesDir, 0o700); err != nil {
		return err
	}
	lock, err := lockDir(volumesDir, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := loadVolume(name); err == nil {
		return nil
	}
	if anonymous && labels == nil {
		labels = map[string]string{}
	}
	if anonymous {
		labels[anonymousLabel] = ""
	}
	v := volume.Volume{Name: name, Driver: "local", Scope: "local", Mountpoint: volumeData(name),
		CreatedAt: time.Now().Format(time.RFC3339), Labels: labels}
	content, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(volumeData(name), 0o755); err != nil {
		return err
	}
	return replaceFile(filepath.Join(volumesDir, name, "volume.json"), content, 0o600, true)
}

// noVolume is the error for a name that no volume has.
type noVolume string

func (n noVolume) Error() string { return "get " + string(n) + ": no such volume" }

// loadVolume returns the volume name. Its error for one that is not there is docker's.
func loadVolume(name string) (v volume.Volume, err error) {
	content, err := os.ReadFile(filepath.Join(volumesDir, filepath.Base("/"+name), "volume.json"))
	if errors.Is(err, os.ErrNotExist) {
		return v, noVolume(name)
	}
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal(content, &v)
}

// listVolumes returns all volumes, by their names.
func listVolumes() (all []volume.Volume, err error) {
	entries, err := os.ReadDir(volumesDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") { // it is being removed
			continue
		}
		if v, err := loadVolume(entry.Name()); err == nil { // else it is just being made
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(a, b volume.Volume) int {
		if sortorder.NaturalLess(a.Name, b.Name) {
			return -1
		}
		return 1
	})
	return all, nil
}

// fillVolumes copies into volumes of c, those of points, as far as they are empty, what the image
// has where they are to be mounted: with owners, modes, times, links and extended attributes.
func fillVolumes(c *container, points []dockercontainer.MountPoint, img *image) error {
	points = slices.DeleteFunc(points, func(point dockercontainer.MountPoint) bool {
		entries, err := os.ReadDir(point.Source)
		return err == nil && len(entries) > 0
	})
	if len(points) == 0 {
		return nil
	}
	return withImage(c.dir()+"/merged", img.layerDirs(), func(root int) error {
		for _, point := range points {
			if err := fillVolume(point, root); err != nil {
				return err
			}
		}
		return nil
	})
}

// fillVolume is fillVolumes for one volume; root is a descriptor of the image's root directory.
func fillVolume(point dockercontainer.MountPoint, root int) error {
	content, err := openInRoot(root, point.Destination, unix.O_PATH)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s of the image: %w", point.Destination, err)
	}
	defer unix.Close(content)
	var stat unix.Stat_t
	if err := unix.Fstat(content, &stat); err != nil {
		return fmt.Errorf("fstat %s of the image: %w", point.Destination, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("cannot mount volume over existing file, file exists %s", point.Destination)
	}
	data := volumeData(point.Name)
	lock, err := lockDir(filepath.Dir(data), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.Close()
	entries, err := os.ReadDir(data)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return nil
	}
	if err := fs.CopyDir(data, fdPath(content)); err != nil {
		return fmt.Errorf("failed to populate volume %s: %w", point.Name, err)
	}
	return nil
}

// volumeUsers returns the IDs of the containers that have the volume name, but not of except. It
// looks at what is written of them: to see whether they run could mean to remove one, with volumes.
func volumeUsers(name, except string) (ids []string, err error) {
	entries, err := os.ReadDir(containersDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, entry := range entries {
		c, err := loadContainer(entry.Name())
		if errors.Is(err, os.ErrNotExist) || entry.Name() == except {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, point := range c.Mounts {
			if point.Type == mounttypes.TypeVolume && point.Name == name {
				ids = append(ids, c.ID)
				break
			}
		}
	}
	return ids, nil
}

// removeVolume removes the volume name, unless a container other than except has it.
func removeVolume(name, except string) error {
	if _, err := loadVolume(name); err != nil {
		return err
	}
	lock, err := lockDir(volumesDir, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.Close()
	ids, err := volumeUsers(name, except)
	if err != nil {
		return err
	}
	if len(ids) > 0 {
		return volumeInUse{name, ids}
	}
	// What takes time, or is interrupted, happens where nobody looks for a volume.
	removed := filepath.Join(volumesDir, "."+newID())
	if err := os.Rename(filepath.Join(volumesDir, name), removed); err != nil {
		return err
	}
	return removeTree(removed)
}

// volumeInUse is the error for a volume that containers have.
type volumeInUse struct {
	name string
	ids  []string
}

func (v volumeInUse) Error() string {
	return fmt.Sprintf("remove %s: volume is in use - [%s]", v.name, strings.Join(v.ids, ", "))
}

// removeVolumes removes the anonymous volumes of c, as far as no other container has them.
func removeVolumes(c *container) error {
	for _, point := range c.Mounts {
		if point.Type != mounttypes.TypeVolume {
			continue
		}
		v, err := loadVolume(point.Name)
		if errors.As(err, new(noVolume)) {
			continue
		}
		if _, anonymous := v.Labels[anonymousLabel]; err == nil && !anonymous {
			continue
		}
		if err == nil {
			err = removeVolume(point.Name, c.ID)
		}
		if err != nil && !errors.As(err, new(volumeInUse)) {
			return err
		}
	}
	return nil
}

// pruneVolumes removes the volumes that no container has, only those without a name unless all, and
// returns their names, and how many bytes they had.
func pruneVolumes(all bool) (deleted []string, reclaimed int64, err error) {
	if err := removeLeftovers(); err != nil {
		return nil, 0, err
	}
	volumes, err := listVolumes()
	if err != nil {
		return nil, 0, err
	}
	for _, v := range volumes {
		if _, anonymous := v.Labels[anonymousLabel]; !anonymous && !all {
			continue
		}
		usage, err := fs.DiskUsage(context.Background(), v.Mountpoint)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return deleted, reclaimed, err
		}
		err = removeVolume(v.Name, "")
		if errors.As(err, new(volumeInUse)) || errors.As(err, new(noVolume)) {
			continue
		}
		if err != nil {
			return deleted, reclaimed, err
		}
		deleted = append(deleted, v.Name)
		reclaimed += usage.Size
	}
	return deleted, reclaimed, nil
}

// removeLeftovers removes what a gocker that was killed has left of a volume.
func removeLeftovers() error {
	lock, err := lockDir(volumesDir, unix.LOCK_EX)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	leftovers, err := filepath.Glob(volumesDir + "/.*")
	if err != nil {
		return err
	}
	for _, leftover := range leftovers {
		if err := removeTree(leftover); err != nil {
			return err
		}
	}
	return nil
}
