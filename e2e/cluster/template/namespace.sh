# Process 1 of a cluster's namespaces: makes its mounts and its network, then becomes the program that only waits.
# $1 the cluster's folder, $2 the node's name, $3 its address, $4 the program.
set -eu
folder=$1 node=$2 address=$3 program=$4
mount --make-rprivate /
mount -t proc proc /proc
hostname "$node"

# Fresh and private: network namespaces of pods, shims' sockets, locks.
mount -t tmpfs -o mode=755 cluster /run
mkdir -p /run/keep /run/netns /run/lock
# The kubelet and CNI know folders in /var/lib whatever they are told.
mount --bind "$folder" /run/keep
mount -t tmpfs -o mode=755 cluster /var/lib
mkdir -p "$folder" /var/lib/kubelet /var/lib/cni
mount --bind /run/keep "$folder"
umount /run/keep
mount --bind "$folder/kubelet" /var/lib/kubelet
mount --bind "$folder/var-log" /var/log
mount --bind "$folder/hosts" /etc/hosts
# The kubelet wants to set these for the whole machine. It finds them set, in files of its own.
for file in "$folder"/tunables/*; do
    mount --bind "$file" "/proc/sys/$(basename "$file" | tr . /)"
done

ip link set lo up
ip link add node0 type bridge
ip address add "$address/24" dev node0
ip link set node0 up
ip route add default dev node0
echo 1 >/proc/sys/net/ipv4/ip_forward
echo ready >"$folder/namespace.ready"
exec "$program"
