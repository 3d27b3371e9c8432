#!/bin/sh
# Drives a systemd service as an instance of Signalbox (driver: exec).
#
#   unit.sh UNIT        what to do is in SIGNALBOX_ACTION
#
# The unit is master exactly while it runs. It has to be disabled and must not
# come up by itself, or it would serve without having been promoted:
#
#   systemctl disable --now orders.service
#   systemctl edit orders.service     [Service]
#                                     Restart=no
set -u
unit=${1:?usage: unit.sh UNIT}

# stopped is true when no process of the unit is left, also while it starts or stops.
stopped() {
	case $(systemctl show --property=ActiveState --value "$unit") in
	inactive | failed) true ;;
	*) false ;;
	esac
}

case ${SIGNALBOX_ACTION:?run by a signalbox agent} in
status)
	systemctl --quiet is-active "$unit" && exit 0
	exit 3
	;;
ready)
	case $(systemctl show --property=LoadState --value "$unit") in
	loaded) ;;
	*)
		echo "problem=unit-not-loaded|systemd does not know $unit|install it, then: systemctl daemon-reload"
		exit 1
		;;
	esac
	if systemctl --quiet is-enabled "$unit"; then
		echo "problem=unit-enabled|$unit would start at boot without being master|systemctl disable $unit"
	fi
	;;
step-down)
	systemctl --no-block stop "$unit" || exit 1
	stopped || exit 75 # not yet: asked again
	;;
promote)
	systemctl start "$unit"
	;;
stop)
	systemctl kill --signal=KILL "$unit"
	systemctl stop "$unit"
	;;
*)
	echo "no such action: $SIGNALBOX_ACTION" >&2
	exit 1
	;;
esac
