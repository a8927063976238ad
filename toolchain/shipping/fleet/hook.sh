#!/bin/sh
# A hook of RAUC's for packages of nnx: the slot is the folder in which they live; what is to be done is in the image.

case $1 in
slot-install)
    place=$(mktemp -d) || exit 1
    trap 'rm -rf "$place"' EXIT
    tar xof "$RAUC_IMAGE_NAME" -C "$place" || exit 1
    sh "$place/install.sh"
    ;;
*) exit 1 ;;
esac
