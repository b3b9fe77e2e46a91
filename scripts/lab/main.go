// Command lab makes the lab images and hands them out: to a file, to a directory,
// to a registry, or as a registry of its own on loopback.
package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/spf13/pflag"

	"gocker/scripts/internal/labimage"
)

const usage = `usage: lab COMMAND [IMAGE...]

  lab save [-o FILE] [IMAGE...]    write a tar for docker load (default lab.tar)
  lab layout [-o DIR] [IMAGE...]   write an OCI image layout (default lab-layout)
  lab push HOST:PORT [IMAGE...]    push to a registry
  lab serve [-l HOST:PORT] [IMAGE...]   be a registry (default 127.0.0.1:5000)

An IMAGE is the name of a lab image (lab, lab-layers, lab-deep), or a tar file:
one from docker save, or a root file system, which becomes an image of one layer.
A tar is known by its file's name without the extension, or after NAME=FILE by
NAME. Without IMAGE, it is lab; with serve, all lab images.
`

func main() {
	if err := lab(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func lab(args []string) error {
	flags := pflag.NewFlagSet("lab", pflag.ContinueOnError)
	flags.Usage = func() { fmt.Print(usage) }
	out := flags.StringP("output", "o", "", "")
	listen := flags.StringP("listen", "l", "127.0.0.1:5000", "")
	if err := flags.Parse(args); errors.Is(err, pflag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("no command given; try lab --help")
	}
	command, names := flags.Arg(0), flags.Args()[1:]
	var target string
	if command == "push" {
		if len(names) == 0 {
			return errors.New("push: HOST:PORT is missing")
		}
		target, names = names[0], names[1:]
	}
	if len(names) == 0 {
		names = []string{"lab"}
		if command == "serve" {
			names = slices.Sorted(maps.Keys(labimage.Images))
		}
	}
	images := map[string]v1.Image{}
	for _, arg := range names {
		name, img, err := open(arg)
		if err != nil {
			return fmt.Errorf("%s: %w", arg, err)
		}
		images[name] = img
	}
	switch command {
	case "save":
		return save(images, or(*out, "lab.tar"))
	case "layout":
		return writeLayout(images, or(*out, "lab-layout"))
	case "push":
		return push(images, target)
	case "serve":
		return serve(images, *listen)
	}
	return fmt.Errorf("unknown command %q; try lab --help", command)
}

func or(given, fallback string) string {
	if given != "" {
		return given
	}
	return fallback
}

// open returns the image that arg means and the name it goes by.
func open(arg string) (string, v1.Image, error) {
	if build, ok := labimage.Images[arg]; ok {
		img, err := build()
		return arg, img, err
	}
	name, file, named := strings.Cut(arg, "=")
	if !named {
		file = arg
		name, _, _ = strings.Cut(strings.ToLower(filepath.Base(file)), ".")
	}
	opener := func() (io.ReadCloser, error) { return os.Open(file) }
	saved, err := isSaved(file)
	if err != nil {
		return "", nil, err
	}
	if saved {
		img, err := tarball.Image(opener, nil)
		return name, img, err
	}
	img, err := labimage.Rootfs(opener)
	return name, img, err
}

// isSaved tells whether the tar file holds an image, as docker save writes it,
// and not a root file system.
func isSaved(file string) (bool, error) {
	f, err := os.Open(file)
	if err != nil {
		return false, err
	}
	defer f.Close()
	for archive := tar.NewReader(f); ; {
		header, err := archive.Next()
		if err == io.EOF {
			return false, nil
		} else if err != nil {
			return false, err
		}
		if header.Name == "manifest.json" {
			return true, nil
		}
	}
}

func save(images map[string]v1.Image, file string) error {
	tags := map[name.Tag]v1.Image{}
	for n, img := range images {
		tag, err := name.NewTag(n)
		if err != nil {
			return err
		}
		tags[tag] = img
	}
	return tarball.MultiWriteToFile(file, tags)
}

func writeLayout(images map[string]v1.Image, dir string) error {
	to, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	for n, img := range images {
		// The name's key is fixed by the OCI image-spec, annotations.md.
		name := map[string]string{"org.opencontainers.image.ref.name": n}
		if err := to.AppendImage(img, layout.WithAnnotations(name)); err != nil {
			return err
		}
	}
	return nil
}

func push(images map[string]v1.Image, registry string) error {
	for n, img := range images {
		ref, err := name.ParseReference(registry + "/" + n)
		if err != nil {
			return err
		}
		if err := remote.Write(ref, img); err != nil {
			return fmt.Errorf("push %s: %w", ref, err)
		}
	}
	return nil
}

// serve prints a line for each image when it can be pulled, and runs until it is
// killed. A registry has no passwords, so it refuses to be more than a local one.
func serve(images map[string]v1.Image, listen string) error {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	if !listener.Addr().(*net.TCPAddr).IP.IsLoopback() {
		return fmt.Errorf("%s is not a loopback address", listen)
	}
	failed := make(chan error, 1)
	quiet := registry.Logger(log.New(io.Discard, "", 0))
	go func() { failed <- http.Serve(listener, registry.New(quiet)) }()
	if err := push(images, listener.Addr().String()); err != nil {
		return err
	}
	for _, n := range slices.Sorted(maps.Keys(images)) {
		fmt.Printf("%s/%s\n", listener.Addr(), n)
	}
	return <-failed
}
