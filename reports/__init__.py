"""What people read: tables, figures, the HTML report, experiment tracking."""
