package main

import (
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
//	parameters       content types have parameters
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
	if r.fault == "parameters" {
		w.Header().Set("Content-Type", answer.Header().Get("Content-Type")+"; charset=utf-8")
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
	repo, tag, ok := strings.Cut(strings.TrimPrefix(req.URL.Path, "/v2/"), "/manifests/")
	key := path.Base(repo) + ":" + tag
	if images[key] == nil { // also if tag is a digest
		key, tag = path.Base(repo), "latest"
	}
	build, isImage := images[key]
	buildIndex, isIndex := indexes[key]
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if !ok || !isImage && !isIndex || r.has[repo+":"+tag] {
		return nil
	}
	r.has[repo+":"+tag] = true
	ref, err := name.ParseReference(labAddress + "/" + repo + ":" + tag)
	if err != nil {
		return err
	}
	options := []remote.Option{remote.WithTransport(handlerTransport{r.store})}
	if isIndex {
		index, err := buildIndex()
		if err != nil {
			return err
		}
		return remote.WriteIndex(ref, index, options...)
	}
	img, err := build()
	if err != nil {
		return err
	}
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
