package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// containerName is what a container may be called.
var containerName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// checkName refuses a name that no container may have. Docker allows a slash before it, which its
// API puts there; it is not part of the name.
func checkName(name string) error {
	if !containerName.MatchString(strings.TrimPrefix(name, "/")) {
		return fmt.Errorf("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	return nil
}

// randomName returns a name that no container has at the moment, for one whose user gives it none.
func randomName() string {
	for try := 0; ; try++ {
		name := nameMoods[rand.IntN(len(nameMoods))] + "_" + namePeople[rand.IntN(len(namePeople))]
		if try >= 10 { // there are very many containers
			name = fmt.Sprintf("%s%d", name, rand.IntN(1_000_000))
		}
		if _, err := os.Lstat(filepath.Join(namesDir, name)); err != nil {
			return name
		}
	}
}

var nameMoods = strings.Fields(`
	agile airy amber astute balmy bold breezy bright brisk calm candid cheery clever cosy crisp curious
	daring deft dreamy eager earnest fabled fleet frank gentle gleeful golden handy hardy humble
	jaunty keen kindly limber lively lucid mellow merry mild nimble noble patient placid playful plucky
	polite quick quiet quirky ready robust rustic serene silent snug spry steady sunny tidy vivid witty`)

// namePeople are some of those whom computers and the sciences come from.
var namePeople = strings.Fields(`
	abel aiken allen archimedes babbage backus bardeen bell boole brattain cantor cerf church codd cray
	curie dahl diffie dijkstra einstein engelbart erdos euclid euler floyd galois gauss goedel hamilton
	hamming hawking hellman hilbert hoare hollerith hopper huffman iverson kahn kepler kernighan kilby
	knuth lamport leibniz liskov lovelace mccarthy milner minsky naur neumann newton noether nygaard
	pascal postel ritchie shannon thompson turing wilkes wirth zuse`)

// completeContainers completes the names of containers, for the shell.
func completeContainers(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	all, err := listContainers()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, c := range all {
		names = append(names, c.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
