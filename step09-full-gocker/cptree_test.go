package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// newRoot makes a root directory in a directory that nothing may get to.
func newRoot(t *testing.T) (dir string, root int) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range []string{"root/dir", "outside/dir"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root, err := unix.Open(dir+"/root", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(root) })
	return dir, root
}

// tarOf returns an archive with these headers; files have their own names as content.
func tarOf(t *testing.T, headers ...tar.Header) io.Reader {
	t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, header := range headers {
		if header.Typeflag == tar.TypeReg {
			header.Size = int64(len(header.Name))
		}
		header.Uid, header.Gid = os.Getuid(), os.Getgid()
		if err := w.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if header.Typeflag == tar.TypeReg {
			io.WriteString(w, header.Name)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &archive
}

// files returns the paths of what is in dir.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, name); rel != "." {
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestArchiveStaysInRoot(t *testing.T) {
	dir, root := newRoot(t)
	os.Symlink(dir+"/outside", dir+"/root/abs")
	os.Symlink("../../../../../../../../.."+dir+"/outside", dir+"/root/up")
	os.MkdirAll(dir+"/root"+dir+"/outside", 0o755) // where links lead to in a container
	for _, name := range []string{"/../../outside/a", "../outside/b", "abs/c", "up/d", "made/on/the/way"} {
		err := readTree(root, "/", tarOf(t, tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600}))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := files(t, dir+"/outside"); !slices.Equal(got, []string{"dir"}) {
		t.Error("outside has", got)
	}
	for _, name := range []string{"outside/a", "outside/b", dir + "/outside/c", dir + "/outside/d", "made/on/the/way"} {
		if _, err := os.Stat(dir + "/root/" + name); err != nil {
			t.Error(err)
		}
	}
}

func TestLinksInAnArchiveStayInRoot(t *testing.T) {
	dir, root := newRoot(t)
	err := readTree(root, "/dir", tarOf(t,
		tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: dir + "/outside"},
		tar.Header{Name: "proc", Typeflag: tar.TypeSymlink, Linkname: "/proc/self/cwd"},
		tar.Header{Name: "file", Typeflag: tar.TypeReg, Mode: 0o4755},
		tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "file"},
		tar.Header{Name: "link", Typeflag: tar.TypeReg, Mode: 0o600}, // takes the link's place
	))
	if err != nil {
		t.Fatal(err)
	}
	err = readTree(root, "/dir", tarOf(t, tar.Header{Name: "proc/x", Typeflag: tar.TypeReg}))
	if err == nil {
		t.Error("a link without a target was followed")
	}
	if err := readTree(root, "/dir", tarOf(t, tar.Header{Name: "out", Typeflag: tar.TypeLink, Linkname: "../../outside/dir"})); err == nil {
		t.Error("a hard link leads out")
	}
	if got := files(t, dir+"/outside"); !slices.Equal(got, []string{"dir"}) {
		t.Error("outside has", got)
	}
	var file, hard unix.Stat_t
	unix.Lstat(dir+"/root/dir/file", &file)
	unix.Lstat(dir+"/root/dir/hard", &hard)
	if file.Ino != hard.Ino || file.Mode&0o7777 != 0o4755 {
		t.Errorf("file is %d with mode %o, hard %d", file.Ino, file.Mode, hard.Ino)
	}
}

func TestDirectoriesAndFilesDoNotReplaceEachOther(t *testing.T) {
	dir, root := newRoot(t)
	os.WriteFile(dir+"/root/file", nil, 0o644)
	for _, header := range []tar.Header{{Name: "dir", Typeflag: tar.TypeReg}, {Name: "file/", Typeflag: tar.TypeDir}} {
		err := readTree(root, "/", tarOf(t, header))
		if err == nil || !strings.HasPrefix(err.Error(), "cannot overwrite ") {
			t.Errorf("%s: %v", header.Name, err)
		}
	}
}

func TestTreeComesBackAsItWas(t *testing.T) {
	dir, root := newRoot(t)
	from := dir + "/root/dir"
	os.MkdirAll(from+"/sub/empty", 0o2750)
	os.WriteFile(from+"/sub/file", []byte("content"), 0o640)
	os.Link(from+"/sub/file", from+"/hard")
	os.Symlink("/nowhere", from+"/link")
	unix.Mkfifo(from+"/fifo", 0o600)
	var archive bytes.Buffer
	if err := writeTree(root, "/dir", true, &archive); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/root/copy", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := readTree(root, "/copy", &archive); err != nil {
		t.Fatal(err)
	}
	if a, b := files(t, from), files(t, dir+"/root/copy/dir"); !slices.Equal(a, b) {
		t.Errorf("%v became %v", a, b)
	}
	for _, name := range files(t, from) {
		var a, b unix.Stat_t
		unix.Lstat(from+"/"+name, &a)
		unix.Lstat(dir+"/root/copy/dir/"+name, &b)
		if a.Mode != b.Mode || a.Nlink != b.Nlink || a.Mtim.Sec != b.Mtim.Sec {
			t.Errorf("%s: %+v became %+v", name, a, b)
		}
	}
}

// While directories and links that lead out change places, nothing is read or written outside:
// CVE-2018-15664.
func TestNoRaceLeadsOut(t *testing.T) {
	dir, root := newRoot(t)
	os.WriteFile(dir+"/outside/secret", []byte("outside's"), 0o644)
	os.WriteFile(dir+"/root/dir/secret", []byte("harmless"), 0o644)
	os.Symlink(dir+"/outside", dir+"/root/link")
	stop := make(chan bool)
	stopped := make(chan bool)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, dir+"/root/dir", unix.AT_FDCWD, dir+"/root/link", unix.RENAME_EXCHANGE)
			}
		}
	}()
	read, written := 0, 0
	for i := range 3000 {
		for _, name := range []string{"/dir", "/dir/secret"} {
			var archive bytes.Buffer
			if err := writeTree(root, name, name == "/dir", &archive); err != nil {
				continue
			}
			read++
			if bytes.Contains(archive.Bytes(), []byte("outside's")) {
				t.Fatal("read outside:", archive.String())
			}
		}
		name := fmt.Sprintf("dir/new%d", i%7)
		if err := readTree(root, "/", tarOf(t, tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644})); err == nil {
			written++
		}
	}
	close(stop)
	<-stopped
	if got := files(t, dir+"/outside"); !slices.Equal(got, []string{"dir", "secret"}) {
		t.Error("outside has", got)
	}
	if read < 100 || written < 100 {
		t.Errorf("only %d of 6000 reads, %d of 3000 writes succeeded", read, written)
	}
}
