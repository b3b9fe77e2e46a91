package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"gocker/scripts/internal/labimage"
)

// labAddress is where the sandbox has a registry from step 04 on.
const labAddress = "127.0.0.1:5000"

// images are what every registry of the checks has. Those that are bad are bad
// in themselves; what goes wrong on the way is a fault of the registry.
var images = map[string]func() (v1.Image, error){
	"lab":        labimage.Lab,
	"lab-layers": labimage.Layers,
	"lab-deep":   labimage.Deep,

	"zstd":         func() (v1.Image, error) { return onLab(compression.ZStd, labimage.File("packed", 0o644, "zstd\n")) },
	"uncompressed": func() (v1.Image, error) { return onLab(compression.None, labimage.File("packed", 0o644, "none\n")) },
	"configured": configured(func(c *v1.Config) {
		c.Entrypoint, c.Cmd = []string{"echo", "entrypoint"}, []string{"cmd"}
	}),
	"environment": configured(func(c *v1.Config) {
		c.Cmd = []string{"sh", "-c", "env"}
		c.Env = append(c.Env, "COLOUR=blue", "HOME=/srv")
		c.WorkingDir = "/srv/made/by/gocker"
	}),
	"linked-etc": func() (v1.Image, error) {
		return onLab(compression.GZip, labimage.Symlink("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
			labimage.Symlink("etc/hosts", "/nowhere/hosts"))
	},
	"no-command": configured(func(c *v1.Config) { c.Cmd = nil }),
	"big": func() (v1.Image, error) {
		return onLab(compression.GZip, labimage.File("big", 0o644, strings.Repeat("gocker!\n", 8<<20)))
	},

	"dotdot":     bad(labimage.File("../../outside/dotdot", 0o644, "escaped\n")),
	"absolute":   bad(labimage.File("/run/outside/absolute", 0o644, "escaped\n")),
	"symlink":    bad(labimage.Symlink("link", "/run/outside"), labimage.File("link/symlink", 0o644, "escaped\n")),
	"symlink-up": bad(labimage.Symlink("link", "../../../../../../../../run/outside"), labimage.File("link/symlink", 0o644, "escaped\n")),
	"symlink-slash": bad(labimage.Symlink("out", "../../../../../../../../run/outside"), labimage.Symlink("link", "out/"),
		labimage.Entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "link/null", Devmajor: 1, Devminor: 3}}),
	"symlink-file": bad(labimage.Symlink("link", "/run/outside/file"), labimage.File("link", 0o644, "only the link is replaced\n")),
	"hardlink":     bad(labimage.Link("link", "../../../../../../../run/outside/file"), labimage.File("link", 0o644, "escaped\n")),
	"hardlink-via": bad(labimage.Symlink("dir", "/run/outside"), labimage.Link("link", "dir/file")),
	"whiteout-up":  bad(labimage.Symlink("dir", "/run/outside"), labimage.File("dir/.wh.file", 0o644, "")),
	"whiteout-dot": bad(labimage.File(".wh...", 0o644, ""), labimage.File("a/.wh...", 0o644, "")),
	"not-a-tar": func() (v1.Image, error) {
		return onLabRaw(compression.GZip, []byte(strings.Repeat("this is no tar archive. ", 100)))
	},
	"cut-tar": func() (v1.Image, error) {
		content, err := labimage.Tar(labimage.File("file", 0o644, strings.Repeat("x", 2000)))
		if err != nil {
			return nil, err
		}
		return onLabRaw(compression.GZip, content[:1024])
	},
	"wrong-diffid":    diffIDs(func(ids []v1.Hash) []v1.Hash { ids[1].Hex = strings.Repeat("0", 64); return ids }),
	"too-few-diffids": diffIDs(func(ids []v1.Hash) []v1.Hash { return ids[:1] }),
}

// configured is the lab image with another configuration.
func configured(configure func(*v1.Config)) func() (v1.Image, error) {
	return func() (v1.Image, error) {
		lab, err := labimage.Lab()
		if err != nil {
			return nil, err
		}
		return labimage.Image(lab, configure)
	}
}

// diffIDs is an image of two layers whose configuration lists others.
func diffIDs(change func([]v1.Hash) []v1.Hash) func() (v1.Image, error) {
	return func() (v1.Image, error) {
		img, err := onLab(compression.GZip, labimage.File("file", 0o644, "content"))
		if err != nil {
			return nil, err
		}
		config, err := img.ConfigFile()
		if err != nil {
			return nil, err
		}
		config = config.DeepCopy()
		config.RootFS.DiffIDs = change(config.RootFS.DiffIDs)
		return mutate.ConfigFile(img, config)
	}
}

// bad is an image whose second layer has entries that no honest layer has.
func bad(entries ...labimage.Entry) func() (v1.Image, error) {
	return func() (v1.Image, error) { return onLab(compression.GZip, entries...) }
}

// onLab is the lab image with one layer more.
func onLab(with compression.Compression, entries ...labimage.Entry) (v1.Image, error) {
	content, err := labimage.Tar(entries...)
	if err != nil {
		return nil, err
	}
	return onLabRaw(with, content)
}

// onLabRaw is the lab image with a layer of content, which need not be a tar.
func onLabRaw(with compression.Compression, content []byte) (v1.Image, error) {
	layer, err := labimage.Layer(content, with)
	if err != nil {
		return nil, err
	}
	lab, err := labimage.Lab()
	if err != nil {
		return nil, err
	}
	return labimage.Image(lab, nil, layer)
}

// A labRegistry is go-containerregistry's registry with all images, each put into
// it when somebody asks for it first, and with one fault, of these:
//
//	status N         every request is answered with the HTTP status N
//	password         it wants the user lab with the password secret
//	half             a layer ends in the middle, and so does the connection
//	stall            a layer stops coming in the middle, and the connection stays
//	manifest, config, layer   that is not quite what its digest says
//	index            every image is an index that has another platform's image first
//	other-platform   every image is an index that has only another platform's
type labRegistry struct {
	store  http.Handler
	fault  string
	status int
	mutex  sync.Mutex
	has    map[string]bool // names of the images that are in the store
}

// startRegistry starts a registry with fault on address, a HOST:PORT.
func startRegistry(address, fault string) error {
	r := &labRegistry{
		store: registry.New(registry.Logger(log.New(io.Discard, "", 0))),
		has:   map[string]bool{},
	}
	r.fault, _, _ = strings.Cut(fault, " ")
	if _, err := fmt.Sscanf(fault, "status %d", &r.status); r.fault == "status" && err != nil {
		return fmt.Errorf("fault %q: %w", fault, err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	go http.Serve(listener, r)
	return nil
}

func (r *labRegistry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	user, password, _ := req.BasicAuth()
	switch {
	case r.fault == "status":
		http.Error(w, "a page\nof several lines", r.status)
		return
	case r.fault == "password" && (user != "lab" || password != "secret"):
		w.Header().Set("WWW-Authenticate", `Basic realm="lab"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if err := r.provide(req); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer := httptest.NewRecorder()
	r.store.ServeHTTP(answer, req)
	body := answer.Body.Bytes()
	isBlob := strings.Contains(req.URL.Path, "/blobs/")
	isConfig := bytes.Contains(body, []byte(`"rootfs"`))
	switch {
	case req.Method != http.MethodGet || answer.Code != http.StatusOK:
	case (r.fault == "half" || r.fault == "stall") && isBlob && !isConfig:
		body = body[:len(body)/2] // fewer bytes than Content-Length says
	case r.fault == "manifest" && strings.Contains(req.URL.Path, "/manifests/"):
		body = append(bytes.Clone(body), '\n') // the same JSON with another digest
		answer.Header().Set("Content-Length", strconv.Itoa(len(body)))
	case r.fault == "config" && isBlob && isConfig, r.fault == "layer" && isBlob && !isConfig:
		body = bytes.Clone(body)
		body[len(body)/2] ^= 1
	}
	for key, values := range answer.Header() {
		w.Header()[key] = values
	}
	w.WriteHeader(answer.Code)
	w.Write(body)
	if r.fault == "stall" && len(body) < answer.Body.Len() {
		http.NewResponseController(w).Flush()
		<-req.Context().Done()
	}
}

// provide puts the image that req is about into the store.
func (r *labRegistry) provide(req *http.Request) error {
	repo, _, ok := strings.Cut(strings.TrimPrefix(req.URL.Path, "/v2/"), "/manifests/")
	build, known := images[path.Base(repo)]
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if !ok || !known || r.has[repo] {
		return nil
	}
	r.has[repo] = true
	img, err := build()
	if err != nil {
		return err
	}
	ref, err := name.ParseReference(labAddress + "/" + repo)
	if err != nil {
		return err
	}
	options := []remote.Option{remote.WithTransport(handlerTransport{r.store})}
	if r.fault != "index" && r.fault != "other-platform" {
		return remote.Write(ref, img, options...)
	}
	index := v1.ImageIndex(empty.Index)
	for _, platform := range []v1.Platform{{OS: "linux", Architecture: "s390x"}, {OS: "linux", Architecture: runtime.GOARCH}} {
		if r.fault == "index" || platform.Architecture != runtime.GOARCH {
			index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &platform}})
		}
		if img, err = labimage.Image(img, func(c *v1.Config) { c.Env = append(c.Env, "PLATFORM=right") }); err != nil {
			return err
		}
	}
	return remote.WriteIndex(ref, index, options...)
}

// A handlerTransport is an http.RoundTripper that asks a handler, without a network.
type handlerTransport struct{ http.Handler }

func (t handlerTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	answer := httptest.NewRecorder()
	if req.Body == nil {
		req.Body = http.NoBody
	}
	t.ServeHTTP(answer, req)
	response := answer.Result()
	response.Request = req
	return response, nil
}

// writeRootfs unpacks the lab image into the directory dir, which must not exist,
// with the tar of the host: a second opinion on what belongs there.
func writeRootfs(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	img, err := labimage.Lab()
	if err != nil {
		return err
	}
	tar := exec.Command("tar", "-x", "-p", "--numeric-owner", "-C", dir)
	tar.Stdin = mutate.Extract(img)
	if out, err := tar.CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w: %s", err, out)
	}
	return nil
}
