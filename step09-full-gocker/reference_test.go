package main

import "testing"

func TestReferencesAreDockers(t *testing.T) {
	const sum = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	for name, want := range map[string]string{
		"bb":                     refsDir + "/index.docker.io/library/bb/:latest",
		"docker.io/library/bb:1": refsDir + "/index.docker.io/library/bb/:1",
		"a/b":                    refsDir + "/index.docker.io/a/b/:latest",
		"localhost/b":            refsDir + "/localhost/b/:latest",
		"127.0.0.1:5000/a/b:2":   refsDir + "/127.0.0.1:5000/a/b/:2",
		"bb@" + sum:              refsDir + "/index.docker.io/library/bb/:" + sum,
		"bb:1@" + sum:            refsDir + "/index.docker.io/library/bb/:" + sum,
		"BAD":                    "",
		"../../x":                "",
		"a:b:c":                  "",
		"":                       "",
		sum[7:]:                  "",
	} {
		ref, err := parseReference(name)
		if err != nil {
			if want != "" {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if got := refLink(ref); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		there, err := inRegistry(ref)
		if err != nil || refsDir+"/"+there.Context().Name()+"/:"+there.Identifier() != want {
			t.Errorf("%s: go-containerregistry has it as %v, %v", name, there, err)
		}
	}
}
