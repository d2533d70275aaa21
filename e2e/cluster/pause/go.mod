// Holds a pod's namespaces, and a whole cluster's: no dependencies.
module navarch/e2e/cluster/pause

go 1.26.0
