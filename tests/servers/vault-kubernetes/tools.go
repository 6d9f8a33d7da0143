//go:build tools

// Package tools pins the plug-in for Vault's Kubernetes auth that the tests run; tests/support/servers.py builds it.
package tools

import _ "github.com/hashicorp/vault-plugin-auth-kubernetes/cmd/vault-plugin-auth-kubernetes"
