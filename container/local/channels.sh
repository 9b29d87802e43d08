# The optional channels of a training, sourced by `make train` and `make cv`. A folder that is named has to exist, so
# only what is there is exported: SM_CHANNEL_* for a command on this machine, and in COMPOSE_FILE what mounts it.
#
#   GOAL               train or cv
#   DATA/validation    validation images
#   PRETRAINED         weights to start from, a file or a folder; else those of MODEL that `make weights` has cached
#
# Leaves --pretrained in the positional parameters if PRETRAINED is an option and not the channel.

if [ "$RUNTIME" = docker ]; then compose=docker-compose.yml; else compose=; fi

if [ -d "$DATA/validation" ]; then
  export SM_CHANNEL_VALIDATION="$DATA/validation"
  export COMPOSE_FILE=docker-compose.yml:container/local/validation.yml
fi

# The words of ARGS after a flag, such as those of --model.
given_in_args() {
  printf '%s\n' "$ARGS" | sed -nE "s/.*(^| )$1[ =]+([^ ]+).*/\2/p"
}

# Print the folder in the cache with the weights of a model, as code/weights_cache.py finds it; nothing if it is not there.
cached_weights() {
  cache=${WEIGHTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mask-classifier/weights}
  if printf '%s' "$1" | grep -qE '^[[:alnum:]_-][[:alnum:]_.-]*(/[[:alnum:]_-][[:alnum:]_.-]*)?$' &&
    [ -n "$(find "$cache/$1/" -maxdepth 1 -name '*.json' 2>/dev/null)" ]; then
    printf '%s' "$cache/$1"
  fi
}

# Print the folder of a run to resume, or of a fold, that began without weights: it is resumed as it began. A run that has
# taken no step has fixed nothing, see code/training/start.py. The newest checkpoint of a folder counts.
began_without_weights() {
  if [ "${RESUME:-$(given_in_args --resume)}" = never ]; then return; fi
  if [ "$GOAL" = cv ]; then depth=2; else depth=1; fi
  find "$OUT/checkpoints/" -mindepth "$depth" -maxdepth "$depth" -name 'step-*.json' ! -name 'step-000000000-*' \
    2>/dev/null | LC_ALL=C sort -r | while IFS= read -r manifest; do
    if [ "${manifest%/*}" = "$seen" ]; then continue; fi
    seen=${manifest%/*}
    if ! grep -q '"initial weights": "' "$manifest"; then printf '%s' "$seen" && break; fi
  done
}

pretrained=
case ${PRETRAINED:-$(given_in_args --pretrained)} in
  '' | auto)
    model=${MODEL:-$(given_in_args --model)}
    cached=$(cached_weights "$model")
    if [ -z "$SM_CHANNEL_PRETRAINED" ] && [ -n "$cached" ]; then
      began=$(began_without_weights)
      if [ -n "$began" ]; then
        echo "weights of $model: those in the cache, $cached, are ignored, as the run to resume began without weights;" \
          "RESUME=never starts from scratch with them: $began"
      else
        SM_CHANNEL_PRETRAINED=$cached
        echo "weights of $model: those in the cache, $cached; PRETRAINED=none trains from scratch"
      fi
    fi
    ;;
  *)
    pretrained=$PRETRAINED # empty if it is in ARGS
    if [ -n "$compose" ] && [ -d "$pretrained" ]; then
      SM_CHANNEL_PRETRAINED=$pretrained pretrained=
    elif [ -n "$compose" ] && [ -f "$pretrained" ]; then # its folder is mounted: notes may be beside it
      SM_CHANNEL_PRETRAINED=$(dirname "$pretrained")
      pretrained=/opt/ml/input/data/pretrained/$(basename "$pretrained")
    fi
    ;;
esac

if [ -n "$SM_CHANNEL_PRETRAINED" ]; then
  export SM_CHANNEL_PRETRAINED
  export COMPOSE_FILE="${COMPOSE_FILE:-docker-compose.yml}:container/local/pretrained.yml"
else
  unset SM_CHANNEL_PRETRAINED
fi

if [ -n "$pretrained" ]; then set -- --pretrained "$pretrained"; fi
