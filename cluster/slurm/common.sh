# shellcheck shell=bash disable=SC2034 # variables are for those that source this
# What the job scripts share; sourced by them, and by ray-node on every node.
#
# Read from the environment of sbatch:
#   BOOSTER_RAY          the checkout (the folder that sbatch was called in)
#   BOOSTER_RAY_IMAGE    Apptainer image; without it, BOOSTER_RAY_PYTHON or the checkout's .venv
#   BOOSTER_RAY_STORAGE  where runs are kept, seen by all nodes ($BOOSTER_RAY/results)
#   BOOSTER_RAY_SCRATCH  node-local disk (SLURM_TMPDIR, TMPDIR, else /tmp)
set -euo pipefail

: "${BOOSTER_RAY:=$SLURM_SUBMIT_DIR}"
: "${BOOSTER_RAY_STORAGE:=$BOOSTER_RAY/results}"
export BOOSTER_RAY BOOSTER_RAY_STORAGE
cd "$BOOSTER_RAY"

# What a run writes for itself alone goes to the node's own disk; checkpoints go to the storage.
scratch="${BOOSTER_RAY_SCRATCH:-${SLURM_TMPDIR:-${TMPDIR:-/tmp}}}/booster_ray-$SLURM_JOB_ID"
export TMPDIR="$scratch" PYTHONPATH="$BOOSTER_RAY${PYTHONPATH:+:$PYTHONPATH}"
export RAY_USAGE_STATS_ENABLED=0 PYTHONUNBUFFERED=1
# Nodes often have no way out: what W&B would send is kept, and sent by `cluster/slurm/sync`.
export WANDB_MODE="${WANDB_MODE:-offline}"

if [[ -n ${BOOSTER_RAY_IMAGE:-} ]]; then
    binds="$BOOSTER_RAY,/tmp,${scratch%/*}"
    [[ $BOOSTER_RAY_STORAGE != /* ]] || binds+=",$BOOSTER_RAY_STORAGE"
    python=(apptainer exec --nv --bind "$binds" --pwd "$BOOSTER_RAY" "$BOOSTER_RAY_IMAGE" python)
else
    python=("${BOOSTER_RAY_PYTHON:-$BOOSTER_RAY/.venv/bin/python}")
fi

make_scratch() {
    mkdir -p "$scratch"
    trap leave EXIT
}

leave() {
    rm -rf "$scratch"
    if [[ -n ${requeue:-} ]]; then
        echo "saved: back to the queue"
        if scontrol requeue "$SLURM_JOB_ID"; then
            sleep 60 # SLURM ends this script meanwhile
        fi
    fi
}

# run_arguments MARKER CONFIG [key=value …]: sets `arguments`, what begins the run that the job is
# named after, or goes on with it where its folder has the file MARKER.
run_arguments() {
    local marker=$1 name=$SLURM_JOB_NAME argument
    shift
    if (($# == 0)); then
        echo "usage: sbatch --job-name=RUN … CONFIG [key=value …]" >&2
        exit 2
    fi
    for argument in "$@"; do
        case $argument in name=* | storage=*)
            echo "error: $argument: the run is called after --job-name, BOOSTER_RAY_STORAGE is" \
                "its storage" >&2
            exit 2
            ;;
        esac
    done
    if begun "$marker" "$name"; then
        arguments=(--resume "$name" --storage "$BOOSTER_RAY_STORAGE")
    else
        arguments=("$@" "name=$name" "storage=$BOOSTER_RAY_STORAGE")
    fi
}

begun() {
    case $BOOSTER_RAY_STORAGE in
    *://*) ((${SLURM_RESTART_COUNT:-0} > 0)) || [[ -n ${BOOSTER_RAY_RESUME:-} ]] ;;
    *) [[ -e $BOOSTER_RAY_STORAGE/$2/$1 ]] ;;
    esac
}

# drive COMMAND …: run it to its end. SLURM sends USR1 some time before it kills (--signal), and
# TERM when it wants the nodes back: the command then gets a TERM, saves and ends with code 130,
# and `leave` puts the job back into the queue, where it goes on by its name.
drive() {
    local code=0 asked=
    "$@" &
    driver=$!
    trap 'asked=1; echo "signal: saving"; kill -TERM "$driver" 2>/dev/null || true' USR1 TERM
    while true; do
        code=0
        wait "$driver" || code=$?
        kill -0 "$driver" 2>/dev/null || break # else a signal had ended the wait
    done
    trap - USR1 TERM
    [[ -z $asked ]] || ((code != 130)) || requeue=1
    return "$code"
}
