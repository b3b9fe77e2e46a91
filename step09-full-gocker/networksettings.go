package main

import (
	"net"

	dockercontainer "github.com/moby/moby/api/types/container"
	dockernetwork "github.com/moby/moby/api/types/network"
)

// networkSettings is the network of c as inspect shows it.
func networkSettings(c *container) *dockercontainer.NetworkSettings {
	endpoint := &dockernetwork.EndpointSettings{
		Gateway: c.Network.Gateway, IPAddress: c.Network.Address.Addr(), IPPrefixLen: c.Network.Address.Bits(),
	}
	if !c.Network.Address.IsValid() {
		endpoint.IPPrefixLen = 0
	}
	if mac, err := net.ParseMAC(c.Network.MAC); err == nil {
		endpoint.MacAddress = dockernetwork.HardwareAddr(mac)
	}
	return &dockercontainer.NetworkSettings{
		Ports:    c.Network.Ports,
		Networks: map[string]*dockernetwork.EndpointSettings{c.HostConfig.NetworkMode.NetworkName(): endpoint},
	}
}
