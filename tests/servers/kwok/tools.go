//go:build tools

// Package tools pins the kwok that the tests run; tests/support/servers.py builds it.
package tools

import _ "sigs.k8s.io/kwok/cmd/kwok"
