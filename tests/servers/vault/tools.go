//go:build tools

// Package tools pins the Vault that the tests run against; tests/support/servers.py builds it.
package tools

import _ "github.com/hashicorp/vault"
