package main

import (
	"slices"
	"strings"
	"testing"
)

func TestScriptsAreFoundByTheWordsOfTheirTitles(t *testing.T) {
	scripts := []string{
		"testdata/01-uts/host-name-is-the-containers-id.txtar",
		"testdata/01-uts/host-name-of-the-host-stays.txtar",
		"testdata/03-chroot-rootfs/the-root-directory-is-its-own.txtar",
	}
	all := []string{"01/host-name-is-the-containers-id", "01/host-name-of-the-host-stays", "03/the-root-directory-is-its-own"}
	for _, test := range []struct {
		text string
		want []string
	}{
		{"", all},
		{"hostname", all[:2]},
		{"host name", all[:2]},
		{"host-name", all[:2]},
		{"Host Name", all[:2]},
		{"the container's ID", all[:1]},
		{"its own", all[2:]},
		{"03/the-root-directory-is-its-own", all[2:]}, // as it is printed
		{"chroot", nil},                               // a directory's name
		{"txtar", nil},
		{"host names", nil},
	} {
		if got := titles(withTitle(scripts, test.text)); !slices.Equal(got, test.want) {
			t.Errorf("%q finds %q, not %q", test.text, got, test.want)
		}
	}
}

func TestATextThatFindsNothingIsAnErrorWithTitles(t *testing.T) {
	found, err := selectScripts(1, "no such title")
	if err == nil {
		t.Fatalf("%q is found", found)
	}
	scripts, _ := scriptsOf(1)
	if last := title(scripts[len(scripts)-1]); !strings.Contains(err.Error(), last) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%q is not one line with %s", err, last)
	}
}
