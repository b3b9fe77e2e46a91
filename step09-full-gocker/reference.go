package main

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
)

// refsDir has HOST/NAME/:TAG and HOST/NAME/:DIGEST, symbolic links to images. No part of a
// repository's name begins with ":", and none is longer than a file's name may be.
const refsDir = storeDir + "/refs"

// parseReference reads the name of an image as docker does: bb is docker.io/library/bb:latest,
// and a digest makes a tag beside it say nothing.
func parseReference(name string) (reference.Named, error) {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, err
	}
	return tagOrDigest(ref), nil
}

// tagOrDigest is ref with a digest or else a tag.
func tagOrDigest(ref reference.Named) reference.Named {
	if digested, ok := ref.(reference.Digested); ok {
		exact, err := reference.WithDigest(reference.TrimNamed(ref), digested.Digest())
		if err == nil { // as it has already been part of a name
			return exact
		}
	}
	return reference.TagNameOnly(ref)
}

// refLink is the link in refsDir for ref, which has a tag or a digest. Docker Hub has the name
// there that steps 04 to 08 gave it.
func refLink(ref reference.Named) string {
	host := reference.Domain(ref)
	if host == "docker.io" {
		host = name.DefaultRegistry
	}
	identifier := ""
	switch ref := ref.(type) {
	case reference.Canonical:
		identifier = ref.Digest().String()
	case reference.Tagged:
		identifier = ref.Tag()
	}
	return filepath.Join(refsDir, host, reference.Path(ref), ":"+identifier)
}

// allReferences returns the names of all images by their IDs, sorted.
func allReferences() (map[string][]reference.Named, error) {
	all := map[string][]reference.Named{}
	err := filepath.WalkDir(refsDir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // no image yet, or a name that is just being removed
		}
		if err != nil || entry.Type() != fs.ModeSymlink {
			return err
		}
		target, err := os.Readlink(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		repository, err := filepath.Rel(refsDir, filepath.Dir(path))
		if err != nil {
			return err
		}
		identifier := entry.Name() // with the ":" before it
		if strings.Count(identifier, ":") > 1 {
			identifier = "@" + identifier[1:]
		}
		ref, err := reference.ParseNormalizedNamed(repository + identifier)
		if err != nil {
			return nil // nothing that gocker has made
		}
		id := "sha256:" + filepath.Base(target)
		all[id] = append(all[id], ref)
		return nil
	})
	return all, err
}

// tagsAndDigests returns refs as users write them, those with a tag, and those with a digest.
func tagsAndDigests(refs []reference.Named) (tags, digests []string) {
	for _, ref := range refs {
		if isDigest(ref) {
			digests = append(digests, reference.FamiliarString(ref))
		} else {
			tags = append(tags, reference.FamiliarString(ref))
		}
	}
	return tags, digests
}

func isDigest(ref reference.Named) bool {
	_, ok := ref.(reference.Canonical)
	return ok
}

// removeReference takes a name from its image, and directories that are empty then. It needs the
// store locked exclusive.
func removeReference(ref reference.Named) error {
	link := refLink(ref)
	if err := os.Remove(link); err != nil {
		return err
	}
	for dir := filepath.Dir(link); dir != storeDir; dir = filepath.Dir(dir) {
		if os.Remove(dir) != nil {
			break // there is more in it
		}
	}
	return nil
}

// inRegistry is ref as go-containerregistry wants it. A registry on this host needs no TLS.
func inRegistry(ref reference.Named) (name.Reference, error) {
	var options []name.Option
	host := reference.Domain(ref)
	withoutPort := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		withoutPort = h
	}
	if withoutPort == "localhost" || net.ParseIP(strings.Trim(withoutPort, "[]")).IsLoopback() {
		options = append(options, name.Insecure)
	}
	registry, err := name.NewRegistry(host, options...)
	if err != nil {
		return nil, err
	}
	repository := registry.Repo(strings.Split(reference.Path(ref), "/")...)
	if digested, ok := ref.(reference.Canonical); ok {
		return repository.Digest(digested.Digest().String()), nil
	}
	tagged, ok := ref.(reference.Tagged)
	if !ok {
		return nil, errors.New("a name without tag and digest")
	}
	return repository.Tag(tagged.Tag()), nil
}

// onlyIn returns those of refs that are names in the same repository as ref.
func onlyIn(ref reference.Named, refs []reference.Named) []reference.Named {
	return slices.DeleteFunc(slices.Clone(refs), func(other reference.Named) bool { return other.Name() != ref.Name() })
}
