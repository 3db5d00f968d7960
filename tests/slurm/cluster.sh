#!/bin/bash
# A throw-away Slurm of some nodes on this machine, for the tests marked `slurm`. Needs root.
#
#   cluster.sh install          install what it takes by apt, where that is missing
#   cluster.sh up [NODES]       start munge, MariaDB, slurmdbd, slurmctld and NODES slurmd (2)
#   cluster.sh exec COMMAND...  run a command as if on the cluster's login node
#   cluster.sh crash NODE       SIGKILL for every process of a node, as if its power were cut
#   cluster.sh revive NODE      start it again
#   cluster.sh control stop     stop the controller: jobs go on, and nobody can ask after them
#   cluster.sh control start    start it again
#   cluster.sh down             cancel its jobs and end what `up` has started, by process id
#
# Everything lives in the folder SLURM_CI_DIR and in a network, mount and host-name namespace of its
# own, which reaches nothing outside: neither can daemons and jobs. Each node has a name, an address
# and ports of its own there, on a cable (veth) to the login node's switch (bridge).
set -euo pipefail
[ "${1:-}" = install ] || dir=${SLURM_CI_DIR:?set it to a folder for the files of the cluster}
export PATH=$PATH:/usr/sbin:/sbin
network=10.97.0
packages="slurm-wlm munge slurmdbd slurm-wlm-mysql-plugin mariadb-server iproute2"

install_packages() {
  # RUNLEVEL keeps Debian from starting the daemons, which would take the machine for a cluster.
  command -v slurmctld slurmdbd munged mariadbd ip >/dev/null && return
  export RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # shellcheck disable=SC2086
  apt-get install -y -qq --no-install-recommends $packages >/dev/null
}

is_alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }

wait_for() { # SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { echo "cluster.sh: gave up on: $*; logs are in $dir/log" >&2; return 1; }
    sleep 0.1
  done
}

within() { # COMMAND... in the namespaces, in the same folder
  nsenter --target "$(cat "$dir/pid/holder")" --mount --net --uts -- \
    bash -c 'cd "$0" && exec "$@"' "$PWD" \
    env "SLURM_CONF=$dir/slurm.conf" "MYSQL_UNIX_PORT=$dir/db.sock" "$@"
}

on_node() { # NODE COMMAND...
  local holder
  holder=$(cat "$dir/pid/$1")
  shift
  within nsenter --target "$holder" --net --uts -- "$@"
}

hold_namespaces() { # NODES
  {
    printf '127.0.0.1 localhost\n%s.10 ctl\n' "$network"
    for i in $(seq "$1"); do echo "$network.$((10 + i)) n$i"; done
  } >"$dir/hosts"
  setsid unshare --mount --net --uts --propagation private bash -c "
    hostname ctl
    ip link set lo up
    ip link add switch type bridge
    ip address add $network.10/24 dev switch
    ip link set switch up
    mount --bind '$dir/hosts' /etc/hosts
    echo \$\$ >'$dir/pid/holder'
    exec sleep infinity" </dev/null >/dev/null 2>&1 &
  wait_for 10 test -s "$dir/pid/holder"
  wait_for 10 within getent hosts n1
}

boot() { # NODE: give it its namespaces, its cable, and start its daemon
  local node=$1 holder
  rm -f "$dir/pid/$node"
  within setsid unshare --net --uts bash -c "
    hostname $node
    ip link set lo up
    echo \$\$ >'$dir/pid/$node'
    exec sleep infinity" </dev/null >/dev/null 2>&1 &
  wait_for 10 test -s "$dir/pid/$node"
  holder=$(cat "$dir/pid/$node")
  # After a crash, the kernel takes a moment to take the old cable away.
  wait_for 10 within ip link add "$node" type veth peer name eth0 netns "$holder"
  within ip link set "$node" master switch up
  on_node "$node" ip address add "$network.$((10 + ${node#n}))/24" dev eth0
  on_node "$node" ip link set eth0 up
  on_node "$node" slurmd -N "$node"
}

write_configuration() { # NODES
  cat >"$dir/slurmdbd.conf" <<END
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
DbdHost=ctl
DbdAddr=$network.10
DbdPort=16819
SlurmUser=root
LogFile=$dir/log/slurmdbd
PidFile=$dir/pid/slurmdbd
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
END
  chmod 600 "$dir/slurmdbd.conf"
  cat >"$dir/slurm.conf" <<END
ClusterName=throwaway
SlurmctldHost=ctl($network.10)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CredType=cred/munge
MpiDefault=none
# No cgroups here.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=100000
ReturnToService=2
SlurmctldPidFile=$dir/pid/slurmctld
SlurmctldLogFile=$dir/log/slurmctld
StateSaveLocation=$dir/state
SlurmdPidFile=$dir/pid/slurmd.%n
SlurmdLogFile=$dir/log/slurmd.%n
SlurmdSpoolDir=$dir/spool.%n
SlurmdParameters=config_overrides
SlurmdTimeout=10
KillWait=20
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=$network.10
AccountingStoragePort=16819
AccountingStoragePass=$dir/munge/socket
PartitionName=batch Nodes=ALL Default=YES MaxTime=60:00 State=UP
END
  for i in $(seq "$1"); do
    echo "NodeName=n$i NodeAddr=$network.$((10 + i)) Port=$((17000 + i)) CPUs=4 RealMemory=20000"
  done >>"$dir/slurm.conf"
}

start_accounting() {
  [ -d "$dir/db/mysql" ] || mysql_install_db --no-defaults --user=root --datadir="$dir/db" \
    --auth-root-authentication-method=normal --skip-test-db >"$dir/log/install-db" 2>&1
  within setsid mariadbd --no-defaults --user=root --datadir="$dir/db" --socket="$dir/db.sock" \
    --pid-file="$dir/pid/mariadbd" --skip-networking --innodb-buffer-pool-size=64M \
    --innodb-log-file-size=16M --innodb-lock-wait-timeout=900 </dev/null >"$dir/log/mariadbd" 2>&1 &
  wait_for 60 mariadb-admin --no-defaults --socket="$dir/db.sock" ping
  within slurmdbd
  wait_for 60 grep -q started "$dir/log/slurmdbd"
}

up() { # NODES
  local nodes=${1:-2}
  mkdir -p "$dir"/{munge,db,state,log,pid}
  chmod 755 "$dir" "$dir/munge"
  hold_namespaces "$nodes"
  [ -s "$dir/munge/key" ] || (umask 077 && head -c 128 /dev/urandom >"$dir/munge/key")
  within munged --force --origin=$network.10 --key-file="$dir/munge/key" \
    --socket="$dir/munge/socket" --pid-file="$dir/pid/munged" --log-file="$dir/munge/log" \
    --seed-file="$dir/munge/seed"
  write_configuration "$nodes"
  start_accounting
  within slurmctld -i
  wait_for 60 within sinfo
  for i in $(seq "$nodes"); do boot "n$i"; done
  wait_for 60 all_idle "$nodes"
}

all_idle() { [ "$(within sinfo -h -N -t idle -o %N | wc -l)" = "$1" ]; }

is_empty() { [ -z "$(within squeue -h)" ]; }

stop() { # NAME...
  local name
  for name in "$@"; do is_alive "$dir/pid/$name" && kill "$(cat "$dir/pid/$name")" || true; done
  for name in "$@"; do
    for _ in $(seq 100); do is_alive "$dir/pid/$name" || break; sleep 0.1; done
  done
}

down() {
  # A slurmd that stops leaves the steps of its jobs running: jobs go first.
  if is_alive "$dir/pid/slurmctld"; then
    within bash -c 'squeue -h -o %A | xargs -r scancel' || true
    wait_for 30 is_empty || true
  fi
  stop $(cd "$dir/pid" 2>/dev/null && ls -d slurmd.* 2>/dev/null || true)
  stop slurmctld slurmdbd
  stop munged mariadbd
  stop $(cd "$dir/pid" 2>/dev/null && ls -d n[0-9]* 2>/dev/null || true)
  stop holder
}

crash() { # NODE: its processes are those in its host-name namespace
  local namespace process
  namespace=$(readlink "/proc/$(cat "$dir/pid/$1")/ns/uts")
  for process in /proc/[0-9]*; do
    [ "$(readlink "$process/ns/uts" 2>/dev/null)" = "$namespace" ] || continue
    kill -KILL "${process#/proc/}" 2>/dev/null || true
  done
}

revive() { # NODE
  boot "$1"
  wait_for 60 within sinfo -h -N -n "$1" -t idle,allocated,mixed,planned -o %N
}

case ${1:-} in
  install) install_packages ;;
  up) up "${2:-2}" ;;
  exec) shift && within "$@" ;;
  crash) crash "$2" ;;
  revive) revive "$2" ;;
  control) if [ "$2" = stop ]; then stop slurmctld; else within slurmctld; wait_for 60 within sinfo; fi ;;
  down) down ;;
  *) sed -n '2,12p' "$0" >&2 && exit 2 ;;
esac
