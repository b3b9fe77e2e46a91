package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// certificatesDir has, for a registry, HOST:PORT/*.crt, certificates of those who may sign its
// own, and NAME.cert with NAME.key, which are ours. It is docker's.
const certificatesDir = "/etc/docker/certs.d"

// findRemote finds ref in its registry, and returns it with the digest that it has there. Of an
// index of images for several platforms, OCI image-spec, image-index.md, it takes the one for
// platform.
func findRemote(ctx context.Context, ref reference.Named, platform string) (v1.Image, v1.Hash, error) {
	matcher, err := platformMatcher(platform)
	if err != nil {
		return nil, v1.Hash{}, err
	}
	remoteRef, err := inRegistry(ref)
	if err != nil {
		return nil, v1.Hash{}, err
	}
	registry, err := registryTransport(reference.Domain(ref))
	if err != nil {
		return nil, v1.Hash{}, err
	}
	descriptor, err := remote.Get(remoteRef, remote.WithContext(ctx), remote.WithTransport(registry),
		remote.WithAuthFromKeychain(authn.DefaultKeychain)) // what docker login has stored
	if err != nil {
		return nil, v1.Hash{}, err
	}
	if descriptor.MediaType.IsIndex() {
		index, err := descriptor.ImageIndex()
		if err != nil {
			return nil, v1.Hash{}, err
		}
		img, err := chooseImage(index, matcher, platform)
		return img, descriptor.Digest, err
	}
	img, err := descriptor.Image()
	if err != nil || platform == "" {
		return img, descriptor.Digest, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, v1.Hash{}, err
	}
	if is := ociPlatform(config.Platform()); !matcher.Match(is) {
		return nil, v1.Hash{}, fmt.Errorf("image with reference %s was found but its platform (%s) "+
			"does not match the specified platform (%s)", reference.FamiliarString(ref), platforms.Format(is), platform)
	}
	return img, descriptor.Digest, nil
}

// platformMatcher knows what can be run as platform, and what better; "" is this host.
func platformMatcher(platform string) (platforms.MatchComparer, error) {
	if platform == "" {
		return platforms.Default(), nil
	}
	parsed, err := platforms.Parse(platform)
	if err != nil {
		return nil, err
	}
	return platforms.Only(parsed), nil
}

// chooseImage takes the image from index that containerd would.
func chooseImage(index v1.ImageIndex, ours platforms.MatchComparer, platform string) (v1.Image, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	entries := slices.DeleteFunc(slices.Clone(manifest.Manifests), func(entry v1.Descriptor) bool {
		return !entry.MediaType.IsImage() || entry.Platform != nil && !ours.Match(ociPlatform(entry.Platform))
	})
	better := func(a, b *v1.Platform) bool { // what does not say what it is for comes last
		return a != nil && (b == nil || ours.Less(ociPlatform(a), ociPlatform(b)))
	}
	slices.SortStableFunc(entries, func(a, b v1.Descriptor) int { // the best first
		switch {
		case better(a.Platform, b.Platform):
			return -1
		case better(b.Platform, a.Platform):
			return 1
		}
		return 0
	})
	for _, entry := range entries {
		img, err := index.Image(entry.Digest)
		if err != nil {
			return nil, err
		}
		description, err := img.Manifest()
		if err != nil {
			return nil, err
		}
		if !description.Config.MediaType.IsConfig() {
			continue // it is no image but an artifact, whatever it says of a platform
		}
		config, err := img.ConfigFile()
		if err == nil && ours.Match(ociPlatform(config.Platform())) {
			return img, nil
		}
	}
	if platform == "" {
		platform = platforms.DefaultString()
	}
	return nil, fmt.Errorf("no matching manifest for %s in the manifest list entries", platform)
}

// ociPlatform is p as the OCI image-spec has it.
func ociPlatform(p *v1.Platform) ocispec.Platform {
	if p == nil {
		return ocispec.Platform{}
	}
	return ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
}

// registryTransport is how we reach the registry host, HOST or HOST:PORT: with the certificates
// of the system and those in certificatesDir.
func registryTransport(host string) (http.RoundTripper, error) {
	base := remote.DefaultTransport.(*http.Transport).Clone()
	files, err := os.ReadDir(filepath.Join(certificatesDir, host))
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	if len(files) == 0 {
		return plainTypes{base}, nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: roots}
	for _, file := range files {
		path := filepath.Join(certificatesDir, host, file.Name())
		if filepath.Ext(path) == ".crt" {
			certificate, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			roots.AppendCertsFromPEM(certificate)
		}
		if stem, ok := strings.CutSuffix(path, ".cert"); ok {
			pair, err := tls.LoadX509KeyPair(path, stem+".key")
			if err != nil {
				return nil, fmt.Errorf("client certificate %s: %w", path, err)
			}
			config.Certificates = append(config.Certificates, pair)
		}
	}
	base.TLSClientConfig = config
	return plainTypes{base}, nil
}

// plainTypes takes parameters off the content types of a registry's answers, which
// go-containerregistry would not understand.
type plainTypes struct{ http.RoundTripper }

func (p plainTypes) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := p.RoundTripper.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if mediaType, _, err := mime.ParseMediaType(response.Header.Get("Content-Type")); err == nil {
		response.Header.Set("Content-Type", mediaType)
	}
	return response, nil
}
