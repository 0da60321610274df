"""Modules from git, compared with what the real `go` computes with GOPROXY=direct."""
