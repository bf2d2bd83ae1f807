"""What every service does around its handlers: `consumer` is where a delivery is answered with ack or nack."""
