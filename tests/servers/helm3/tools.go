//go:build tools

// Package tools pins the Helm 3 that the tests run; tests/support/servers.py builds it.
package tools

import _ "helm.sh/helm/v3/cmd/helm"
