//! How fast a container may read from and write to each disk.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxResources, LinuxThrottleDevice, LinuxThrottleDeviceBuilder, LinuxWeightDevice,
    LinuxWeightDeviceBuilder,
};

use super::resources::checked_disk_weight;
use super::{DiskRate, SpecError};
use crate::engine::model::DiskFigure;

/// Adds the limits of single disks to `resources`.
pub(super) fn limit(resources: &mut LinuxResources, disks: &[DiskRate]) -> Result<(), SpecError> {
    if disks.is_empty() {
        return Ok(());
    }
    let of = |figure: DiskFigure| -> Option<Vec<LinuxThrottleDevice>> {
        let fitting: Vec<_> = disks.iter().filter(|disk| disk.figure == figure).map(throttle).collect();
        (!fitting.is_empty()).then_some(fitting)
    };
    let mut limits: LinuxBlockIo = resources.block_io().clone().unwrap_or_default();
    limits
        .set_throttle_read_bps_device(of(DiskFigure::BytesRead))
        .set_throttle_write_bps_device(of(DiskFigure::BytesWritten))
        .set_throttle_read_iops_device(of(DiskFigure::Reads))
        .set_throttle_write_iops_device(of(DiskFigure::Writes))
        .set_weight_device(weights(disks)?);
    resources.set_block_io(Some(limits));
    Ok(())
}

fn weights(disks: &[DiskRate]) -> Result<Option<Vec<LinuxWeightDevice>>, SpecError> {
    let one = |disk: &DiskRate| {
        let weight = checked_disk_weight(disk.rate).map_err(SpecError::Resources)?;
        let device = LinuxWeightDeviceBuilder::default();
        let device = device.major(i64::from(disk.major)).minor(i64::from(disk.minor)).weight(weight);
        Ok(device.build().expect("every field that is needed is set"))
    };
    let weighed = disks.iter().filter(|disk| disk.figure == DiskFigure::Weight);
    let list: Vec<_> = weighed.map(one).collect::<Result<_, _>>()?;
    Ok((!list.is_empty()).then_some(list))
}

fn throttle(disk: &DiskRate) -> LinuxThrottleDevice {
    let device = LinuxThrottleDeviceBuilder::default().major(disk.major).minor(disk.minor).rate(disk.rate);
    device.build().expect("every field is set")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_of_its_own_kind() {
        let disk = |minor, figure, rate| DiskRate { major: 8, minor, figure, rate };
        let mut resources = LinuxResources::default();
        limit(&mut resources, &[]).unwrap();
        assert_eq!(resources, LinuxResources::default());
        let mut weighed = LinuxBlockIo::default();
        weighed.set_weight(Some(300));
        resources.set_block_io(Some(weighed));
        limit(&mut resources, &[disk(0, DiskFigure::BytesRead, 5), disk(1, DiskFigure::Writes, 7)]).unwrap();
        let limits = resources.block_io().clone().unwrap();
        let told = |list: &Option<Vec<LinuxThrottleDevice>>| {
            let list = list.iter().flatten();
            list.map(|one| (one.major(), one.minor(), one.rate())).collect::<Vec<_>>()
        };
        assert_eq!(told(limits.throttle_read_bps_device()), [(8, 0, 5)]);
        assert_eq!(told(limits.throttle_write_iops_device()), [(8, 1, 7)]);
        assert_eq!(told(limits.throttle_read_iops_device()), []);
        assert_eq!((limits.weight(), limits.weight_device()), (Some(300), &None));
        limit(&mut resources, &[disk(2, DiskFigure::Weight, 500)]).unwrap();
        let weighed = resources.block_io().clone().unwrap().weight_device().clone().unwrap();
        assert_eq!((weighed[0].minor(), weighed[0].weight()), (2, Some(500)));
        assert!(limit(&mut resources, &[disk(2, DiskFigure::Weight, 1001)]).is_err());
    }
}
